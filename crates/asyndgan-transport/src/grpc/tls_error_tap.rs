use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client::TlsStream, rustls};

/// The last TLS error of a connection.
pub(super) type LastTlsError = Arc<Mutex<Option<rustls::Error>>>;

/// A connection that stores its TLS errors.
pub(super) struct TlsErrorTap {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) last_error: LastTlsError,
}

impl TlsErrorTap {
    fn store_error<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled
            && let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>())
        {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls.clone());
        }
        polled
    }
}

impl AsyncRead for TlsErrorTap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.store_error(polled)
    }
}

impl AsyncWrite for TlsErrorTap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.store_error(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
