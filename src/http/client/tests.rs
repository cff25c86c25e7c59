use hyper::header::HeaderValue;

use super::*;

fn trusted() -> Vec<IpNet> {
    ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().unwrap()).to_vec()
}

fn client(mode: ClientAddress, peer: &str, headers: &[(&'static str, &str)]) -> Client {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    resolve(mode, &trusted(), peer.parse().unwrap(), &map)
}

fn named(address: &str) -> Client {
    Client::Named(address.parse().unwrap())
}

const XFF: &str = "x-forwarded-for";
const FWD: &str = "forwarded";

/// Proves that whoever is no trusted proxy is who they are, whatever they say.
#[test]
fn strangers_are_not_believed() {
    for mode in [ClientAddress::Auto, ClientAddress::Forwarded, ClientAddress::XForwardedFor] {
        let headers = [(XFF, "192.0.2.1"), (FWD, "for=192.0.2.1")];
        let expected = Client::Peer("203.0.113.9".parse().unwrap());
        assert_eq!(client(mode, "203.0.113.9", &headers), expected, "{mode:?}");
        assert_eq!(client(mode, "::ffff:203.0.113.9", &headers), expected, "{mode:?}");
    }
}

/// Proves that each mode looks at its own header only, and that lines are one list.
#[test]
fn modes() {
    let headers = [(XFF, "192.0.2.1"), (XFF, "192.0.2.2, 10.0.0.1"), (FWD, "for=192.0.2.3")];
    let of = |mode| client(mode, "127.0.0.1", &headers);
    assert_eq!(of(ClientAddress::XForwardedFor), named("192.0.2.2"));
    assert_eq!(of(ClientAddress::Forwarded), named("192.0.2.3"));
    assert_eq!(of(ClientAddress::Peer), Client::Unnamed);
    assert_eq!(of(ClientAddress::Auto), Client::Contradicted("127.0.0.1".parse().unwrap()));
    let auto = |headers: &[_]| client(ClientAddress::Auto, "127.0.0.1", headers);
    assert_eq!(auto(&headers[..2]), named("192.0.2.2"));
    assert_eq!(auto(&headers[2..]), named("192.0.2.3"));
    assert_eq!(auto(&[]), Client::Unnamed);
    assert_eq!(auto(&[(XFF, "192.0.2.3"), (FWD, "for=192.0.2.3")]), named("192.0.2.3"));
}

/// Proves that a second header, which a client adds to confuse, frees nobody from a limit.
#[test]
fn contradictions_have_an_address() {
    for invented in ["for=198.51.100.1", "for=unknown", "for=", "for=10.0.0.1", "\""] {
        let headers = [(XFF, "192.0.2.1"), (FWD, invented)];
        let client = client(ClientAddress::Auto, "10.0.0.9", &headers);
        assert_eq!(client.address(), Some("10.0.0.9".parse().unwrap()), "{invented}");
    }
}

/// Proves that the address by which a client is limited is the last trusted hop's where the header is
/// broken, and none where it names nobody.
#[test]
fn addresses() {
    let address = |value| client(ClientAddress::Auto, "127.0.0.1", &[(XFF, value)]).address();
    assert_eq!(address("rubbish"), "127.0.0.1".parse().ok());
    assert_eq!(address("rubbish, 10.0.0.1"), "10.0.0.1".parse().ok());
    assert_eq!(address("unknown"), None);
    assert_eq!(address("127.0.0.1"), None, "the proxies' own");
    assert_eq!(address("::ffff:192.0.2.1"), "192.0.2.1".parse().ok());
}

/// Proves that each way of naming a client is counted.
#[test]
fn counted() {
    let metrics = Metrics::new();
    let clients = Clients::new(ClientAddress::Auto, trusted(), &metrics);
    let ask = |peer: &str, value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(XFF, HeaderValue::from_static(value));
        clients.address(peer.parse().unwrap(), &headers)
    };
    ask("203.0.113.9", "192.0.2.1");
    ask("127.0.0.1", "192.0.2.1");
    ask("127.0.0.1", "unknown");
    ask("127.0.0.1", "rubbish");
    let text = metrics.render();
    for source in ["peer", "named", "unnamed", "invalid"] {
        let series = format!("floodgate_client_address_total{{source=\"{source}\"}} 1");
        assert!(text.contains(&series), "{series} in {text}");
    }
}
