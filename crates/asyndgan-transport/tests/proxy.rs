//! Sites behind an HTTP proxy.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use asyndgan_protocol::Waiting;
use asyndgan_transport::{Error, Proxy};
use support::{PATIENT, Weather, in_process, keys, pass, run, serve, stub_site, take_part};

/// "north:secret", as a proxy gets it.
const AUTHORIZATION: &str = "Basic bm9ydGg6c2VjcmV0";

/// A proxy that gives an answer to every request for a tunnel; the receiver gets the lines of each request.
fn proxy(status: &'static str) -> (SocketAddr, mpsc::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (asked, requests) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let mut reader = BufReader::new(client.try_clone().expect("clone"));
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a request");
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let target = lines[0].split(' ').nth(1).expect("a target").to_owned();
            let _ = asked.send(lines);
            (&client).write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).expect("answers");
            if status.starts_with("200") {
                let server = TcpStream::connect(target).expect("the server");
                let (back, forth) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                thread::spawn(move || pass(client, forth, Weather::Fair));
                thread::spawn(move || pass(server, back, Weather::Fair));
            }
        }
    });
    (address, requests)
}

fn url(proxy: SocketAddr) -> Proxy {
    Proxy::Url(format!("http://north:secret@{proxy}"))
}

#[test]
fn a_run_through_a_proxy_gives_the_same_generator() {
    let (keys, run) = (keys(), run(12, Waiting::All));
    let link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let address = link.address();
    let (proxy, requests) = proxy("200 Connection established");
    let served = serve(link, run.clone(), 1, PATIENT);
    let site = keys.site("north", address).with(|site| site.proxy = url(proxy));
    assert_eq!(site.proxy_address().expect("an address"), Some(format!("http://{proxy}")));
    take_part(site, stub_site(3)).join().expect("no panic").expect("ends well");
    let (generator, _) = served.join().expect("no panic").expect("ends well");
    assert_eq!(generator, in_process(&run, &[3]));
    let request = requests.recv().expect("a request");
    assert_eq!(request[0], format!("CONNECT {address} HTTP/1.1"));
    let authorization = request.iter().find(|line| line.to_lowercase().starts_with("proxy-authorization:"));
    assert!(authorization.expect("a password").ends_with(AUTHORIZATION), "{request:?}");
}

#[test]
fn refusals_are_explained() {
    let (keys, run) = (keys(), run(12, Waiting::All));
    let link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let ask = |status| {
        let (proxy, _requests) = proxy(status);
        keys.site("north", link.address()).with(|site| site.proxy = url(proxy)).preflight().expect_err("refused")
    };
    let error = ask("407 Proxy Authentication Required");
    assert!(matches!(&error, Error::Proxy { fact, .. } if fact.contains("user name and password")), "{error}");
    let error = ask("401 Unauthorized");
    assert!(matches!(&error, Error::Proxy { fact, .. } if fact.contains("rejects this user name and password")), "{error}");
    let error = ask("403 Forbidden").to_string();
    assert!(error.contains("its rules do not allow"), "{error}");
    let error = ask("503 Service Unavailable").to_string();
    assert!(error.contains("cannot reach") && error.contains("503"), "{error}");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let error = keys.site("north", link.address()).with(|site| site.proxy = url(nobody)).preflight().expect_err("refused").to_string();
    assert!(error.contains("cannot reach the proxy"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_machine_that_never_answers_does_not_hold_a_site_for_long() {
    let keys = keys();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let site = keys.site("north", silent.local_addr().expect("an address"));
    let began = std::time::SystemTime::now();
    let error = site.describe().expect_err("no answer");
    assert!(matches!(&error, Error::Transient { fact } if fact.contains("no answer within")), "{error}");
    assert!(began.elapsed().expect("a clock") < std::time::Duration::from_mins(1));
}

#[test]
fn a_wrong_password_is_not_tried_again() {
    let (keys, run) = (keys(), run(12, Waiting::All));
    let link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let (proxy, requests) = proxy("407 Proxy Authentication Required");
    let site = keys.site("north", link.address()).with(|site| site.proxy = url(proxy));
    let ended = take_part(site, stub_site(3)).join().expect("no panic");
    assert!(matches!(ended, Err(Error::Proxy { .. })), "{ended:?}");
    assert_eq!(requests.try_iter().count(), 1);
}
