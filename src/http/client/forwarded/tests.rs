use proptest::prelude::*;

use super::*;

fn is_trusted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
}

fn hops(form: Hops, line: &str) -> Vec<Hop> {
    form.of(line.as_bytes()).collect()
}

fn address(text: &str) -> Hop {
    Hop::Address(text.parse().unwrap())
}

fn walked(form: Hops, lines: &[&[u8]]) -> Client {
    let hops = lines.iter().rev().flat_map(|line| form.of(line));
    walk(IpAddr::from([10, 0, 0, 1]), is_trusted, hops)
}

/// Proves that every form of an entry of `X-Forwarded-For` is read as what it is.
#[test]
fn entries_of_x_forwarded_for() {
    for (entry, hop) in [
        ("192.0.2.1", address("192.0.2.1")),
        ("192.0.2.1:8080", address("192.0.2.1")),
        ("2001:db8::1", address("2001:db8::1")),
        ("[2001:db8::1]", address("2001:db8::1")),
        ("[2001:db8::1]:443", address("2001:db8::1")),
        ("::ffff:192.0.2.1", address("192.0.2.1")),
        ("[::ffff:192.0.2.1]:1", address("192.0.2.1")),
        ("unknown", Hop::Hidden),
        ("Unknown", Hop::Hidden),
        ("_hidden", Hop::Hidden),
        ("192.0.2.1:_port", address("192.0.2.1")),
        ("192.0.2.1:99999", Hop::Invalid),
        ("192.0.2.1:+80", Hop::Invalid),
        ("192.0.2.1:", Hop::Invalid),
        ("192.0.2", Hop::Invalid),
        ("192.0.2.01", Hop::Invalid),
        ("[192.0.2.1]", Hop::Invalid),
        ("[2001:db8::1", Hop::Invalid),
        ("[2001:db8::1]x", Hop::Invalid),
        ("fe80::1%eth0", Hop::Invalid),
        ("unix:", Hop::Invalid),
        ("_", Hop::Invalid),
        ("localhost", Hop::Invalid),
        ("\"192.0.2.1\"", Hop::Invalid),
        ("192.0.2.1 192.0.2.2", Hop::Invalid),
    ] {
        assert_eq!(hops(Hops::XForwardedFor, entry), [hop], "{entry}");
    }
}

/// Proves that every form of an entry of `Forwarded` is read as what it is (RFC 7239 §4, §6).
#[test]
fn entries_of_forwarded() {
    for (entry, hop) in [
        ("for=192.0.2.1", address("192.0.2.1")),
        ("For=192.0.2.1;proto=https;by=203.0.113.43", address("192.0.2.1")),
        ("proto=https ; for=192.0.2.1", address("192.0.2.1")),
        ("for=\"192.0.2.1:47011\"", address("192.0.2.1")),
        ("for=\"[2001:db8:cafe::17]:4711\"", address("2001:db8:cafe::17")),
        ("for=\"[2001:db8:cafe::17]\"", address("2001:db8:cafe::17")),
        ("for=[2001:db8::1]", address("2001:db8::1")),
        ("for=\"192\\.0.2.1\"", address("192.0.2.1")),
        ("for=unknown", Hop::Hidden),
        ("for=_gazonk", Hop::Hidden),
        ("for=\"_gazonk:_x\"", Hop::Hidden),
        ("proto=https", Hop::Hidden),
        ("host=\"a,b;for=192.0.2.9\"", Hop::Hidden),
        ("for=192.0.2.1;for=192.0.2.2", Hop::Invalid),
        ("for=", Hop::Invalid),
        ("for", Hop::Invalid),
        ("192.0.2.1", Hop::Invalid),
        ("for=192.0.2.1 192.0.2.2", Hop::Invalid),
        ("for=\"192.0.2.1\"x", Hop::Invalid),
        ("for=\"192.0.2.1", Hop::Invalid),
        ("for=\"192.0.2.1\\", Hop::Invalid),
    ] {
        assert_eq!(hops(Hops::Forwarded, entry), [hop], "{entry}");
    }
}

/// Proves that lists are taken apart from the right, at commas that are not quoted, and that empty
/// entries are none.
#[test]
fn lists() {
    let list = "for=192.0.2.1, for=\"192.0.2.2\";host=\"x, \\\" y\", ,for=192.0.2.3,";
    let expected = [address("192.0.2.3"), address("192.0.2.2"), address("192.0.2.1")];
    assert_eq!(hops(Hops::Forwarded, list), expected);
    let list = ",192.0.2.1, 192.0.2.2 ,,192.0.2.3";
    assert_eq!(hops(Hops::XForwardedFor, list), expected);
    assert_eq!(hops(Hops::Forwarded, ""), []);
    assert_eq!(hops(Hops::XForwardedFor, " , ,"), []);
}

/// Proves which hop a chain ends at.
#[test]
fn chains() {
    let (peer, inner) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let client = IpAddr::from([192, 0, 2, 1]);
    for (list, expected) in [
        ("", Client::Unnamed),
        ("192.0.2.1", Client::Named(client)),
        ("198.51.100.1, 192.0.2.1", Client::Named(client)),
        ("198.51.100.1, 192.0.2.1, 10.0.0.2", Client::Named(client)),
        ("10.0.0.2, 10.0.0.3", Client::Unnamed),
        ("192.0.2.1, unknown, 10.0.0.2", Client::Unnamed),
        ("192.0.2.1, rubbish", Client::Invalid(peer)),
        ("192.0.2.1, rubbish, 10.0.0.2", Client::Invalid(inner)),
    ] {
        assert_eq!(walked(Hops::XForwardedFor, &[list.as_bytes()]), expected, "{list}");
    }
    let long = "10.0.0.2, ".repeat(limits::FORWARDED_HOPS_MAX + 1);
    assert_eq!(walked(Hops::XForwardedFor, &[long.as_bytes()]), Client::Invalid(inner));
}

/// Anything, and what looks almost like a list.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "(for=|by=|\"|\\\\|,|;|10\\.0\\.0\\.2|192\\.0\\.2\\.9|\\[|\\]|:|_x| ){0,30}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    /// Proves that nothing to the left of the first address that is not trusted changes what is found,
    /// be it on the same line or one before; and that no bytes make the reader panic.
    #[test]
    fn inventions_do_not_count(left in anything(), proxies in 0..5_usize, quoted: bool) {
        let client = "192.0.2.77";
        let proxies = || std::iter::repeat_n("10.0.0.3", proxies);
        let x_forwarded_for: Vec<&str> = std::iter::once(client).chain(proxies()).collect();
        let element = |address: &str| {
            let extra = if quoted { ";host=\"a\\\"b,c\\\\\"" } else { "" };
            format!("for=\"{address}\"{extra}")
        };
        let forwarded: Vec<String> =
            std::iter::once(client).chain(proxies()).map(element).collect();
        for (form, honest) in [
            (Hops::XForwardedFor, x_forwarded_for.join(", ")),
            (Hops::Forwarded, forwarded.join(", ")),
        ] {
            let expected = Client::Named(client.parse().unwrap());
            let line = [&left[..], b",", honest.as_bytes()].concat();
            prop_assert_eq!(walked(form, &[&line]), expected, "one line");
            prop_assert_eq!(walked(form, &[&left, honest.as_bytes()]), expected, "two lines");
            walked(form, &[&left]);
        }
    }
}
