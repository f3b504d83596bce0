//! A way to the server on which no login waits. sqlx 0.9.0 leaves Nagle's algorithm on, and over TLS a login then stands still
//! twice until the server acknowledges what it got, some 45 ms each (<https://github.com/launchbadge/sqlx/issues/4335>).
//!
//! sqlx takes no socket of ours, but the path of a local one. So it gets one, and a task copies between it and a TCP
//! connection of ours, which sends at once. TLS stays between sqlx and the server: on a local socket sqlx asks for it, and
//! holds the certificate against the endpoint's name, as on any other, and what is copied is what else would be on the wire.
//! sqlx's main branch sets `TCP_NODELAY` itself. Once that is released, `connect` is `options.connect()`, and this file goes.

use crate::connect::Endpoint;
use crate::error::is_tls;
use ring::rand::{SecureRandom, SystemRandom};
use sqlx::{ConnectOptions, Connection};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream, tcp, unix};
use tokio::task::JoinSet;

/// What is copied at a time: a record of TLS.
const CHUNK_BYTES: usize = 16 * 1024;

/// The longest that a login which failed waits for its end.
const LAST_WORDS_SECONDS: u64 = 1;

/// The task that copies. Dropping it ends the connection to the server.
#[derive(Default)]
pub(crate) struct Relay {
    task: JoinSet<()>,
    failure: Failure,
}

/// What ended the connection to the server, if that was an error.
type Failure = Arc<Mutex<Option<io::Error>>>;

/// Connects over a relay; `over` tells the options its local socket.
pub(crate) async fn connect<C: Connection>(
    endpoint: &Endpoint,
    options: C::Options,
    over: fn(C::Options, &LocalSocket) -> C::Options,
) -> Result<(C, Relay), sqlx::Error> {
    connect_below(&std::env::temp_dir(), endpoint, options, over).await
}

async fn connect_below<C: Connection>(
    directory: &Path,
    endpoint: &Endpoint,
    options: C::Options,
    over: fn(C::Options, &LocalSocket) -> C::Options,
) -> Result<(C, Relay), sqlx::Error> {
    let (listener, socket) = match LocalSocket::listen(directory, endpoint.port) {
        Ok(listening) => listening,
        Err(error) => {
            tracing::warn!(%error, "logins take longer: no local socket can be made below {}", directory.display());
            return Ok((options.connect().await?, Relay::default()));
        }
    };
    let server = open(endpoint).await?;
    let options = over(options, &socket);
    let relay = Relay::start(listener, socket, server);
    match options.connect().await {
        Ok(connection) => Ok((connection, relay)),
        Err(error) => Err(relay.end_for(error).await),
    }
}

/// As sqlx opens it, but for Nagle's algorithm.
async fn open(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let server = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

impl Relay {
    fn start(listener: UnixListener, socket: LocalSocket, server: TcpStream) -> Self {
        let mut relay = Self::default();
        let failure = relay.failure.clone();
        relay.task.spawn(async move {
            let Ok((mut local, _)) = listener.accept().await else { return };
            // One connection, ours: then there is nothing to find any more.
            drop((listener, socket));
            let mut server = server;
            if let Err(error) = copy(&mut local, &mut server).await {
                // Before sqlx sees its socket end.
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        relay
    }

    /// Ends, and says why a login failed: sqlx sees only that its local socket ended.
    async fn end_for(mut self, error: sqlx::Error) -> sqlx::Error {
        // What sqlx said last is still on its way: why it refuses a certificate, for the server's log.
        let _ = tokio::time::timeout(Duration::from_secs(LAST_WORDS_SECONDS), self.task.join_next()).await;
        let is_perhaps_the_end = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) && !is_tls(&error);
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.filter(|_| is_perhaps_the_end).map_or(error, sqlx::Error::Io)
    }
}

/// Says goodbye, and waits until the server has been sent it.
pub(crate) async fn close(connection: impl Connection, mut relay: Relay) -> Result<(), sqlx::Error> {
    connection.close().await?;
    relay.task.join_next().await;
    Ok(())
}

/// Both ways until either side ends. An error is the server's side's: that sqlx is gone is none.
async fn copy(local: &mut UnixStream, server: &mut TcpStream) -> io::Result<()> {
    let (from_local, to_local) = local.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        ended = hand_on(from_local, to_server) => ended,
        ended = hand_back(from_server, to_local) => ended,
    }
}

async fn hand_on(mut local: unix::ReadHalf<'_>, mut server: tcp::WriteHalf<'_>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(bytes @ 1..) = local.read(&mut chunk).await {
        server.write_all(&chunk[..bytes]).await?;
    }
    Ok(())
}

async fn hand_back(mut server: tcp::ReadHalf<'_>, mut local: unix::WriteHalf<'_>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut has_answered = false;
    loop {
        let bytes = server.read(&mut chunk).await?;
        if bytes == 0 && !has_answered {
            // One that restarts. sqlx would take it for an answer in another protocol.
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection without an answer",
            ));
        }
        if bytes == 0 || local.write_all(&chunk[..bytes]).await.is_err() {
            return Ok(());
        }
        has_answered = true;
    }
}

/// A local socket in a directory of its own that only this user may enter. Dropping it removes both.
pub(crate) struct LocalSocket {
    directory: PathBuf,
    path: PathBuf,
}

impl LocalSocket {
    fn listen(parent: &Path, port: u16) -> io::Result<(UnixListener, Self)> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the machine gives no random numbers"))?;
        let directory = parent.join(format!("aurora-restore-{:016x}", u64::from_ne_bytes(random)));
        // Not one that is there already.
        DirBuilder::new().mode(0o700).create(&directory)?;
        let socket = Self { path: directory.join(format!(".s.PGSQL.{port}")), directory };
        Ok((UnixListener::bind(&socket.path)?, socket))
    }

    /// Where it is, as PostgreSQL's clients want it: they know the name by the port.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Itself, as MySQL's clients want it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // What cannot be removed leads nowhere.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
    use std::os::unix::fs::PermissionsExt;
    use tokio::net::TcpListener;

    /// A server's listener, and where it is.
    async fn listen() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Endpoint { host: "localhost".into(), port })
    }

    /// A relay with sqlx's end and the server's.
    async fn both_ends() -> (Relay, UnixStream, TcpStream) {
        let (listener, endpoint) = listen().await;
        let (socket_listener, socket) = LocalSocket::listen(&std::env::temp_dir(), endpoint.port).unwrap();
        let path = socket.path().to_owned();
        let relay = Relay::start(socket_listener, socket, open(&endpoint).await.unwrap());
        let local = UnixStream::connect(path).await.unwrap();
        (relay, local, listener.accept().await.unwrap().0)
    }

    fn tasks() -> usize {
        tokio::runtime::Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test]
    async fn the_connection_to_the_server_sends_at_once() {
        let (_listener, endpoint) = listen().await;
        assert!(open(&endpoint).await.unwrap().nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_local_socket_is_this_users_alone_and_goes_once_it_is_used() {
        let (listener, endpoint) = listen().await;
        let (socket_listener, socket) = LocalSocket::listen(&std::env::temp_dir(), endpoint.port).unwrap();
        let (directory, path) = (socket.directory().to_owned(), socket.path().to_owned());
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        let _relay = Relay::start(socket_listener, socket, open(&endpoint).await.unwrap());
        let mut local = UnixStream::connect(&path).await.unwrap();
        local.write_all(b"?").await.unwrap();
        listener.accept().await.unwrap().0.read_exact(&mut [0]).await.unwrap();
        assert!(!directory.exists());

        let (_, socket) = LocalSocket::listen(&std::env::temp_dir(), endpoint.port).unwrap();
        let unused = socket.directory().to_owned();
        drop(socket);
        assert!(!unused.exists());
    }

    #[tokio::test]
    async fn what_either_side_sends_arrives_whole() {
        let (_relay, mut local, mut server) = both_ends().await;
        let sent: Vec<u8> = (0..5 * CHUNK_BYTES + 7).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
        let mut arrived = vec![0; sent.len()];
        let (written, read) = tokio::join!(local.write_all(&sent), server.read_exact(&mut arrived));
        assert_eq!((written.unwrap(), read.unwrap()), ((), sent.len()));
        assert!(arrived == sent);
        arrived.fill(0);
        let (written, read) = tokio::join!(server.write_all(&sent), local.read_exact(&mut arrived));
        assert_eq!((written.unwrap(), read.unwrap()), ((), sent.len()));
        assert!(arrived == sent);
    }

    #[tokio::test]
    async fn each_end_ends_the_other_and_the_task() {
        let (relay, local, mut server) = both_ends().await;
        drop(local);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(tasks(), 0);
        drop(relay);

        let (_relay, mut local, server) = both_ends().await;
        drop(server);
        assert_eq!(local.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(tasks(), 0);
    }

    /// Also with a server that reads nothing, behind which all buffers are full.
    #[tokio::test]
    async fn nothing_outlives_the_relay() {
        let (relay, mut local, mut server) = both_ends().await;
        let full = async { while local.write_all(&[0; CHUNK_BYTES]).await.is_ok() {} };
        let full = tokio::time::timeout(Duration::from_millis(300), full);
        assert!(full.await.is_err(), "the buffers are full");
        drop((relay, local));
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 0);
        while server.read(&mut [0; CHUNK_BYTES]).await.unwrap() > 0 {}
    }

    #[tokio::test]
    async fn without_a_local_socket_sqlx_connects_by_itself() {
        let (listener, endpoint) = listen().await;
        let too_long = std::env::temp_dir().join(format!("{:x<100}", std::process::id()));
        std::fs::create_dir_all(&too_long).unwrap();
        for directory in [Path::new("/no/such/directory"), &too_long] {
            let options = PgConnectOptions::new_without_pgpass().host("localhost").port(endpoint.port);
            let options = options.username("app").ssl_mode(PgSslMode::VerifyFull);
            let no_tls = async {
                let (mut client, _) = listener.accept().await.unwrap();
                client.read_exact(&mut [0; 8]).await.unwrap();
                client.write_all(b"N").await.unwrap();
            };
            let login = connect_below::<PgConnection>(directory, &endpoint, options, |options, _| options);
            let met = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(login, no_tls) });
            assert!(matches!(met.await.unwrap().0.err(), Some(sqlx::Error::Tls(_))));
        }
        assert_eq!(std::fs::read_dir(&too_long).unwrap().count(), 0);
        std::fs::remove_dir(too_long).unwrap();
    }
}
