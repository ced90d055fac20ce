//! Where connections come from.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; its file is removed when this is dropped.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have taken the place over already; then there is nothing to do.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A socket could not be bound.
#[derive(Debug)]
pub struct ListenError {
    at: String,
    cause: io::Error,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.at, self.cause)
    }
}

impl std::error::Error for ListenError {}

/// A stream of bytes, of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listener {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        let bound = TcpListener::bind(address).await;
        bound.map(Self::Tcp).map_err(|cause| ListenError { at: format!("tcp {address}"), cause })
    }

    /// Binds a Unix socket for this user alone, in place of one that nobody listens on any more.
    ///
    /// # Errors
    /// The path cannot be made, or somebody listens there.
    pub fn unix(path: &Path) -> Result<Self, ListenError> {
        let failed = |cause| ListenError { at: format!("unix socket {}", path.display()), cause };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        match std::fs::symlink_metadata(path) {
            Ok(meta) if is_socket(&meta) => std::fs::remove_file(path).map_err(failed)?,
            Ok(_) => return Err(failed(io::Error::other("a file that is no socket is in the way"))),
            Err(_) => {}
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self::Unix(listener, SocketFile(path.to_owned())))
    }

    /// The address of a TCP listener.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the system says, such as that there are no file descriptors left.
    pub async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

fn is_socket(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    meta.file_type().is_socket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_or_a_file_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("below/s.sock");
        let first = Listener::unix(&path).expect("binds");
        assert!(Listener::unix(&path).is_err_and(|e| e.to_string().contains("s.sock")));
        drop(first);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "left behind, as after a crash");
        drop(Listener::unix(&path).expect("replaces it"));
        std::fs::write(&path, "precious").expect("writes");
        assert!(Listener::unix(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), "precious");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("binds");
        let address = first.address().expect("address");
        let error = Listener::tcp(address).await.expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
