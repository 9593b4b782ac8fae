//! Limits the number of connections, and decides which one to close above a limit, so that neither unknown clients nor
//! a single site can block the others.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rlimit::Resource;
use tokio::sync::oneshot;

/// Connections that have not presented a certificate yet.
const STRANGERS_MAX: usize = 256;
/// Connections with one certificate: the one in use, and stale ones after network failures.
const PER_CERTIFICATE_MAX: usize = 8;
/// File descriptors for checkpoints, records and the dashboard.
const DESCRIPTORS_RESERVED: u64 = 192;
/// Requests with one certificate: a burst of this size, and one more per second.
const REQUESTS_MAX: f64 = 60.0;

/// The table of all connections.
#[derive(Debug)]
pub(super) struct Connections {
    strangers_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By the order in which they came.
    open: BTreeMap<u64, Connection>,
    requests: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Connection {
    /// The network that it comes from.
    network: IpAddr,
    /// Whose it is, once it has shown a certificate.
    name: Option<String>,
    /// How many streams the site takes part over.
    joined: u32,
    /// Dropped to close it.
    _close: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    since: Instant,
}

/// A place in the table; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// A table for a server with this many sites. Raises the process's limit of file descriptors as far as possible,
    /// and stays within it.
    pub(super) fn new(sites: usize) -> Arc<Self> {
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).or_else(|_| Resource::NOFILE.get_soft()).unwrap_or(1024);
        // The listener's own tables count, too.
        let of_sites = (sites * PER_CERTIFICATE_MAX) as u64;
        let left = descriptors.saturating_sub(DESCRIPTORS_RESERVED).saturating_sub(of_sites);
        let strangers_max = (left as usize).clamp(16, STRANGERS_MAX);
        Arc::new(Self { strangers_max, table: Mutex::default() })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a new connection. If there are too many without a certificate, closes the oldest one of the address with
    /// the most of them. The receiver ends when the new connection is closed.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> (Place, oneshot::Receiver<()>) {
        let mut table = self.table();
        let strangers = || table.open.iter().filter(|(_, c)| c.name.is_none());
        if strangers().count() >= self.strangers_max {
            let mut by_address = BTreeMap::<IpAddr, (usize, u64)>::new();
            for (&number, connection) in strangers() {
                by_address.entry(connection.network).or_insert((0, number)).0 += 1;
            }
            let oldest = by_address.into_values().max_by_key(|&(count, oldest)| (count, Reverse(oldest))).map(|(_, oldest)| oldest);
            oldest.map(|oldest| table.open.remove(&oldest));
        }
        let number = table.next;
        table.next += 1;
        let (close, closed) = oneshot::channel();
        table.open.insert(number, Connection { network: network(address), name: None, joined: 0, _close: close });
        (Place { connections: Arc::clone(self), number }, closed)
    }

    /// Closes all connections.
    pub(super) fn close_all(&self) {
        self.table().open.clear();
    }
}

impl Place {
    /// Records the name in the connection's certificate. If this name has too many connections, closes the oldest one
    /// that is not in use.
    pub(super) fn identify(&self, name: &str) {
        let mut table = self.connections.table();
        if let Some(connection) = table.open.get_mut(&self.number) {
            connection.name = Some(name.to_owned());
        }
        let of_name: Vec<(u64, bool)> =
            table.open.iter().filter(|(_, c)| c.name.as_deref() == Some(name)).map(|(&number, c)| (number, c.joined > 0)).collect();
        if of_name.len() > PER_CERTIFICATE_MAX {
            let unused = of_name.iter().find(|(_, joined)| !joined).or(of_name.first()).map(|c| c.0);
            unused.map(|unused| table.open.remove(&unused));
        }
    }

    /// Records whether the site takes part in the run over this connection.
    pub(super) fn set_joined(&self, joined: bool) {
        if let Some(connection) = self.connections.table().open.get_mut(&self.number) {
            connection.joined = if joined { connection.joined + 1 } else { connection.joined.saturating_sub(1) };
        }
    }

    /// Closes the connection unless the site takes part in the run over it.
    pub(super) fn close_unless_joined(&self) {
        let mut table = self.connections.table();
        if table.open.get(&self.number).is_some_and(|c| c.joined == 0) {
            table.open.remove(&self.number);
        }
    }

    /// Counts one request of the connection's name; returns whether the rate limit allows it.
    pub(super) fn allows_request(&self, now: Instant) -> bool {
        let mut table = self.connections.table();
        let Some(name) = table.open.get(&self.number).and_then(|c| c.name.clone()) else { return false };
        let bucket = table.requests.entry(name).or_insert(Bucket { left: REQUESTS_MAX, since: now });
        bucket.left = (bucket.left + now.saturating_duration_since(bucket.since).as_secs_f64()).min(REQUESTS_MAX);
        bucket.since = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.number);
    }
}

/// Of an IPv6 address its /64 network: a host has all addresses of it.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn is_open(closed: &mut oneshot::Receiver<()>) -> bool {
        matches!(closed.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn many_strangers_of_one_address_push_out_each_other_and_nobody_else() {
        let connections = Connections::new(8);
        let (_hospital, mut hospital) = connections.enter(address(1));
        let mut places: Vec<_> = (0..2_000).map(|_| connections.enter(address(2))).collect();
        assert!(is_open(&mut hospital));
        assert!(is_open(&mut places[1_999].1) && !is_open(&mut places[0].1));
        assert!(places.iter_mut().map(|p| is_open(&mut p.1)).filter(|&open| open).count() < STRANGERS_MAX);
    }

    #[test]
    fn one_certificate_has_a_few_connections_and_keeps_the_one_in_use() {
        let connections = Connections::new(8);
        let enter = |name: &str| {
            let (place, closed) = connections.enter(address(1));
            place.identify(name);
            (place, closed)
        };
        let (used, mut in_use) = enter("north");
        used.set_joined(true);
        let (_other, mut other) = enter("south");
        let mut idle: Vec<_> = (0..1_100).map(|_| enter("north")).collect();
        assert!(is_open(&mut in_use) && is_open(&mut other));
        assert_eq!(idle.iter_mut().map(|p| is_open(&mut p.1)).filter(|&open| open).count(), PER_CERTIFICATE_MAX - 1);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tests may look at the clock")]
    fn requests_come_back_with_time() {
        let connections = Connections::new(1);
        let (place, _closed) = connections.enter(address(1));
        let now = Instant::now();
        assert!(!place.allows_request(now), "a stranger asks nothing");
        place.identify("north");
        assert_eq!((0..500).filter(|_| place.allows_request(now)).count(), REQUESTS_MAX as usize);
        assert_eq!((0..500).filter(|_| place.allows_request(now + Duration::from_secs(3))).count(), 3);
    }
}
