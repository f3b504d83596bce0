//! As much of MySQL's protocol as the script needs: greeting, TLS, full authentication by `caching_sha2_password`, text queries.

use crate::support::{certificates, credentials};
use aurora_restore_database::{Endpoint, Server, Trust};
use aurora_restore_domain::engine::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const PASSWORD: &str = "hashcat";

/// What a query is answered.
#[derive(Clone)]
pub(super) struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Vec<u8>>>,
    refused: Option<(u16, &'static str)>,
    /// Done, with so many rows changed.
    changed: Option<u8>,
    /// None, ever.
    silent: bool,
    once: bool,
}

/// A table of texts. They are sent as Latin 1, so that what is kept of a password can be written as a text.
pub(super) fn rows(columns: &[&str], rows: &[Vec<&str>]) -> Answer {
    let bytes = |text: &&str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    Answer {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows.iter().map(|row| row.iter().map(bytes).collect()).collect(),
        refused: None,
        changed: None,
        silent: false,
        once: false,
    }
}

impl Answer {
    pub(super) fn refused(number: u16, sqlstate: &'static str) -> Self {
        Self { refused: Some((number, sqlstate)), ..rows(&[], &[]) }
    }

    pub(super) fn changed(rows_changed: u8) -> Self {
        Self { changed: Some(rows_changed), ..rows(&[], &[]) }
    }

    pub(super) fn silent() -> Self {
        Self { silent: true, ..rows(&[], &[]) }
    }

    /// The next time, what follows answers.
    pub(super) fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

/// A server that answers by the first text that a statement contains, and with "done" if there is none.
pub(super) struct Script {
    port: u16,
    told: Arc<Mutex<Vec<String>>>,
}

struct Shared {
    /// Whether it asks everybody for a token, as RDS asks who has its plugin.
    asks_for_tokens: bool,
    answers: Mutex<Vec<(&'static str, Answer)>>,
    told: Arc<Mutex<Vec<String>>>,
    tls: Arc<ServerConfig>,
}

impl Script {
    pub(super) fn start(answers: Vec<(&'static str, Answer)>) -> Self {
        Self::start_asking(answers, false)
    }

    /// One that has everybody's password sent in clear, and says what it was sent as a statement.
    pub(super) fn start_asking_for_tokens(answers: Vec<(&'static str, Answer)>) -> Self {
        Self::start_asking(answers, true)
    }

    fn start_asking(answers: Vec<(&'static str, Answer)>, asks_for_tokens: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, told) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let (_, certificate, key) = certificates();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(tls.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let shared = Arc::new(Shared { asks_for_tokens, answers: Mutex::new(answers), told: Arc::clone(&told), tls });
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that leaves in the middle ends its thread, no more.
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, told }
    }

    pub(super) fn server(&self, user: &str, password: &str) -> Server {
        Server {
            engine: Engine::MySql,
            endpoint: Endpoint { host: "localhost".into(), port: self.port },
            database: String::new(),
            master: credentials(user, password),
            trust: Trust::from_pem(certificates().0.clone()).unwrap(),
        }
    }

    /// Every statement so far.
    pub(super) fn statements(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        send(&mut client, 0, &greeting())?;
        receive(&mut client)?; // the request for TLS
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&self.tls)).ok()?, client);
        receive(&mut stream)?; // who, and a scramble that the cache does not know
        if self.asks_for_tokens {
            // Without data, as Aurora does it.
            send(&mut stream, 3, b"\xfemysql_clear_password\0")?;
            let (_, token) = receive(&mut stream)?;
            self.told.lock().unwrap().push(format!("in clear: {}", String::from_utf8(token).ok()?));
        } else {
            send(&mut stream, 3, &[0x01, 0x04])?;
            let (_, password) = receive(&mut stream)?;
            if password != format!("{PASSWORD}\0").into_bytes() {
                return send(&mut stream, 5, &error(1045, "28000"));
            }
        }
        send(&mut stream, 5, &DONE)?;
        while let Some((_, command)) = receive(&mut stream) {
            let (b'\x03', statement) = command.split_first().map(|(kind, rest)| (*kind, rest))? else { return None };
            let statement = String::from_utf8(statement.to_vec()).ok()?;
            self.told.lock().unwrap().push(statement.clone());
            let packets = match self.answer(&statement) {
                None => vec![DONE.to_vec()],
                Some(Answer { silent: true, .. }) => continue,
                Some(Answer { refused: Some((number, sqlstate)), .. }) => vec![error(number, sqlstate)],
                Some(Answer { changed: Some(rows), .. }) => vec![[&[0, rows], &DONE[2..]].concat()],
                Some(answer) => table(&answer),
            };
            for (position, packet) in packets.iter().enumerate() {
                send(&mut stream, u8::try_from(position + 1).ok()?, packet)?;
            }
        }
        Some(())
    }

    fn answer(&self, statement: &str) -> Option<Answer> {
        let mut answers = self.answers.lock().unwrap();
        let position = answers.iter().position(|(text, _)| statement.contains(text))?;
        let answer = answers[position].1.clone();
        if answer.once {
            answers.remove(position);
        }
        Some(answer)
    }
}

const DONE: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];
const END: [u8; 5] = [0xfe, 0, 0, 2, 0];

fn greeting() -> Vec<u8> {
    /// LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, SSL, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS,
    /// PLUGIN_AUTH, PLUGIN_AUTH_LENENC_CLIENT_DATA.
    const CAPABILITIES: u32 = 0x1 | 0x8 | 0x200 | 0x800 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x8_0000 | 0x20_0000;
    let [a, b, c, d] = CAPABILITIES.to_le_bytes();
    let mut packet = vec![10];
    packet.extend_from_slice(b"8.0.39\0\x07\0\0\0saltsalt\0");
    packet.extend_from_slice(&[a, b, 255, 2, 0, c, d, 21]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
    packet
}

fn error(number: u16, sqlstate: &str) -> Vec<u8> {
    let [low, high] = number.to_le_bytes();
    [&[0xff, low, high, b'#'][..], sqlstate.as_bytes(), b"what the script said"].concat()
}

fn table(answer: &Answer) -> Vec<Vec<u8>> {
    let mut packets = vec![vec![u8::try_from(answer.columns.len()).unwrap()]];
    for name in &answer.columns {
        let mut packet = vec![];
        for part in ["def", "", "", "", name, ""] {
            text(&mut packet, part.as_bytes());
        }
        packet.extend_from_slice(&[0x0c, 45, 0, 0, 1, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
        packets.push(packet);
    }
    packets.push(END.to_vec());
    for row in &answer.rows {
        let mut packet = vec![];
        row.iter().for_each(|value| text(&mut packet, value));
        packets.push(packet);
    }
    packets.push(END.to_vec());
    packets
}

/// With its length before it: all of ours are short.
fn text(packet: &mut Vec<u8>, bytes: &[u8]) {
    packet.push(u8::try_from(bytes.len()).ok().filter(|length| *length < 251).unwrap());
    packet.extend_from_slice(bytes);
}

fn send(stream: &mut impl Write, sequence: u8, payload: &[u8]) -> Option<()> {
    let [a, b, c, _] = u32::try_from(payload.len()).ok()?.to_le_bytes();
    stream.write_all(&[&[a, b, c, sequence][..], payload].concat()).ok()?;
    stream.flush().ok()
}

fn receive(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((header[3], payload))
}
