//! The header by which a proxy says whose connection it brings: PROXY protocol, version 2.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits;

/// Signature, version and command, family, and length.
const FIXED_BYTES: usize = 16;
/// Which of them says version and command, and what it says where the proxy speaks for itself.
const COMMAND: usize = 12;
const LOCAL: u8 = 0x20;
const VERSION_2: ParseConfig = ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true };

/// Reads the header and not a byte more. `None`: there is no valid one; the inner `None`: the proxy
/// speaks for itself. Whom a proxy brings without an address (of a local socket, say, or of a family that it
/// does not tell) is not the proxy, and nobody whom anything could be counted against.
///
/// Not cancel-safe: what was read is lost, and so is the connection.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Option<SocketAddr>> {
    let mut header = [0; limits::PROXY_HEADER_BYTES_MAX];
    stream.read_exact(&mut header[..FIXED_BYTES]).await.ok()?;
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([header[14], header[15]]));
    stream.read_exact(header.get_mut(FIXED_BYTES..length)?).await.ok()?;
    let (parsed, read) = ProxyHeader::parse(&header[..length], VERSION_2).ok()?;
    if read != length {
        return None;
    }
    match parsed.proxied_address() {
        None => (header[COMMAND] == LOCAL).then_some(None),
        Some(address) if address.protocol == Protocol::Stream => Some(Some(address.source)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;

    use super::*;

    fn header(source: &str, destination: &str) -> Vec<u8> {
        let parse = |text: &str| text.parse().unwrap();
        let address = ProxiedAddress::stream(parse(source), parse(destination));
        let mut bytes = Vec::new();
        ProxyHeader::with_address(address).encode_v2(&mut bytes).unwrap();
        bytes
    }

    async fn of(bytes: &[u8]) -> Option<Option<SocketAddr>> {
        read(&mut &bytes[..]).await
    }

    /// Proves that addresses of both families are read, that a proxy may speak for itself, and that
    /// what follows the header is left where it is.
    #[tokio::test]
    async fn good_headers() {
        for (source, destination) in
            [("192.0.2.1:4711", "192.0.2.2:80"), ("[2001:db8::1]:4711", "[2001:db8::2]:80")]
        {
            let mut bytes = header(source, destination);
            bytes.extend_from_slice(b"GET");
            let mut rest = &bytes[..];
            assert_eq!(read(&mut rest).await, Some(Some(source.parse().unwrap())));
            assert_eq!(rest, b"GET");
        }
        let mut local = Vec::new();
        ProxyHeader::with_local().encode_v2(&mut local).unwrap();
        assert_eq!(of(&local).await, Some(None));
    }

    /// Proves that whatever is not such a header is none: cut short anywhere, any bit of its fixed part
    /// wrong, too long, of version 1, or plain HTTP; or of a peer without an address.
    #[tokio::test]
    async fn bad_headers() {
        let good = header("192.0.2.1:4711", "192.0.2.2:80");
        for length in 0..good.len() {
            assert_eq!(of(&good[..length]).await, None, "{length} bytes");
        }
        for byte in 0..13 {
            let mut bad = good.clone();
            bad[byte] ^= 0x10;
            assert_eq!(of(&bad).await, None, "byte {byte}");
        }
        let mut datagram = good.clone();
        datagram[13] = 0x12;
        let mut short = good.clone();
        short[15] = 11;
        let mut long = good.clone();
        (long[14], long[15]) = (0xff, 0xff);
        long.resize(FIXED_BYTES + 0xffff, 0);
        let first = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n".to_vec();
        let plain = b"GET /v1/time HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        let mut untold = good[..FIXED_BYTES].to_vec();
        (untold[13], untold[15]) = (0x00, 0);
        let mut unix = good.clone();
        (unix[13], unix[15]) = (0x31, 216);
        unix.resize(FIXED_BYTES + 216, 0);
        for bad in [datagram, short, long, first, plain, untold, unix] {
            assert_eq!(of(&bad).await, None, "{bad:?}");
        }
    }
}
