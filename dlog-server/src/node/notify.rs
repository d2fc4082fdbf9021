//! Says `ready`: a line on standard error, and a datagram to the service manager if one asked for it.

use std::os::unix::net::UnixDatagram;

/// Tells whoever waits that writes can be taken.
pub fn ready() {
    eprintln!("ready");
    // systemd's protocol: the socket's path in NOTIFY_SOCKET, "@" for one without a name in the file system (which the
    // standard library can address only on a newer interface; services get a path).
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET")
        && let Ok(socket) = UnixDatagram::unbound()
        && let Err(error) = socket.send_to(b"READY=1", &path)
    {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
