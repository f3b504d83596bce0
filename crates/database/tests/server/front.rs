//! TLS in front of a PostgreSQL that was built without it, as the newest one that the registries have is: answers the
//! client's request for TLS, takes the handshake, and hands on what comes after.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// `SSLRequest`: its length and its code.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Listens until it is dropped.
pub(crate) struct Front {
    pub(crate) port: u16,
    _until_dropped: oneshot::Sender<()>,
}

impl Front {
    /// Listens on a free port, with a certificate and its key in PEM, for the server at `port`.
    pub(crate) fn before(port: u16, certificate: &str, key: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap().port();
        let (until_dropped, dropped) = oneshot::channel();
        // A thread of its own: each test has a runtime, and a server may serve several.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let serve = async {
                    while let Ok((client, _)) = listener.accept().await {
                        tokio::spawn(hand_on(client, acceptor.clone(), SocketAddr::from(([127, 0, 0, 1], port))));
                    }
                };
                tokio::select! { () = serve => {}, _ = dropped => {} }
            });
        });
        Self { port: own, _until_dropped: until_dropped }
    }
}

/// A client that asks for no TLS, or breaks off, is told nothing, as by a server that takes `hostssl` only.
async fn hand_on(mut client: TcpStream, acceptor: TlsAcceptor, server: SocketAddr) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    if request != SSL_REQUEST {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(server).await?;
    client.get_ref().0.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
