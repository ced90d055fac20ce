//! TLS from both sides: a client that shows what was agreed on, and an end of TLS before a server
//! that has none.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificates::Certificates;
use super::client::Answer;
use super::error::HarnessError;

/// How long any step of an exchange may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A client by TLS that trusts one authority, with a connection for each request.
#[derive(Debug, Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

/// An answer, and what was agreed on before.
#[derive(Debug, Clone)]
pub struct TlsAnswer {
    /// The answer.
    pub answer: Answer,
    /// The protocol by ALPN, such as `h2`.
    pub protocol: String,
    /// The server's certificate, as it came.
    pub certificate: Vec<u8>,
}

impl TlsClient {
    /// A client that offers these protocols by ALPN, and shows a certificate if one is given.
    ///
    /// # Errors
    /// The files are not those of certificates.
    pub fn new(
        certificates: &Certificates,
        identity: Option<&Certificates>,
        protocols: &[&str],
    ) -> Result<Self, HarnessError> {
        let mut roots = RootCertStore::empty();
        for certificate in chain(&certificates.ca)? {
            roots.add(certificate).map_err(|error| HarnessError::http("trusting", &error))?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(chain(&own.cert)?, key(&own.key)?)
                .map_err(|error| HarnessError::http("taking a certificate", &error))?,
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { config: Arc::new(config) })
    }

    /// Sends a request to 127.0.0.1 and reads the whole answer; a GET where `body` is empty.
    ///
    /// # Errors
    /// There was no TLS, or no whole answer.
    pub async fn send(&self, port: u16, path: &str, body: &str) -> Result<TlsAnswer, HarnessError> {
        let doing = format!("by TLS to {port}{path}");
        let exchange = timeout(STEP_TIMEOUT, self.exchange(port, path, body, &doing));
        exchange.await.map_err(|_| HarnessError::Deadline(doing.clone()))?
    }

    async fn exchange(
        &self,
        port: u16,
        path: &str,
        body: &str,
        doing: &str,
    ) -> Result<TlsAnswer, HarnessError> {
        let failed = |error: &dyn std::error::Error| HarnessError::http(doing, error);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tcp = TcpStream::connect(address).await.map_err(HarnessError::io(doing))?;
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let tls = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await;
        let tls = tls.map_err(HarnessError::io(doing))?;
        let agreed = tls.get_ref().1;
        let protocol = String::from_utf8_lossy(agreed.alpn_protocol().unwrap_or_default()).into_owned();
        let certificate = agreed.peer_certificates().and_then(<[_]>::first).map(|der| der.to_vec());
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://127.0.0.1:{port}{path}"))
            .header("host", format!("127.0.0.1:{port}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|error| failed(&error))?;
        let io = TokioIo::new(tls);
        let response = if protocol == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|e| failed(&e))?;
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.map_err(|e| failed(&e))?;
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let (head, body) = response.map_err(|error| failed(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        Ok(TlsAnswer { answer, protocol, certificate: certificate.unwrap_or_default() })
    }
}

/// The end of TLS before a server without. Dropping it closes it.
#[derive(Debug)]
pub struct TlsEnd {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl TlsEnd {
    /// Listens on a free port with this certificate, and passes on what comes to `server`.
    ///
    /// # Errors
    /// No port, or files that are not those of a certificate.
    pub async fn before(server: SocketAddr, certificates: &Certificates) -> Result<Self, HarnessError> {
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain(&certificates.cert)?, key(&certificates.key)?)
            .map_err(|error| HarnessError::http("taking a certificate", &error))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listening.map_err(HarnessError::io("listening"))?;
        let address = listener.local_addr().map_err(HarnessError::io("listening"))?;
        let serving = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut behind = TcpStream::connect(server).await?;
                    let mut before = acceptor.accept(tcp).await?;
                    copy_bidirectional(&mut before, &mut behind).await
                });
            }
        });
        Ok(Self { address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsEnd {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, HarnessError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| HarnessError::http(&format!("reading {}", path.display()), &error))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, HarnessError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| HarnessError::http(&format!("reading {}", path.display()), &error))
}
