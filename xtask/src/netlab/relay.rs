use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;

use crate::now;

#[derive(Args)]
pub(crate) struct RelayArguments {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Address to forward to.
    #[arg(long)]
    to: SocketAddr,
    /// Delay of all data, in milliseconds.
    #[arg(long)]
    delay_ms: u64,
}

/// Forwards connections with a delay, as netem would.
pub(crate) fn relay(arguments: &RelayArguments) -> Result<()> {
    let delay = Duration::from_millis(arguments.delay_ms);
    for client in TcpListener::bind(arguments.listen)?.incoming() {
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(arguments.to)) else { continue };
        let (Ok(back), Ok(forth)) = (client.try_clone(), server.try_clone()) else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        thread::spawn(move || pass(client, forth, delay));
        thread::spawn(move || pass(server, back, delay));
    }
    Ok(())
}

fn pass(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (send, receive) = channel::<(Instant, Vec<u8>)>();
    let mut out = to.try_clone();
    let writer = thread::spawn(move || {
        for (at, bytes) in receive {
            thread::sleep(at.saturating_duration_since(now()));
            if !out.as_mut().is_ok_and(|out| out.write_all(&bytes).is_ok()) {
                break;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if send.send((now() + delay, buffer[..n].to_vec())).is_err() {
            break;
        }
    }
    drop(send);
    let _ = writer.join();
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
