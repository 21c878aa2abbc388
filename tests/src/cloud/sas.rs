//! Azure's shared access signatures: tokens that name a resource and an end, signed with a device's
//! key by HMAC-SHA256.
//!
//! ```text
//!  SharedAccessSignature sr={resource}&sig={signature}&se={end}
//!  signature = base64(HMAC-SHA256(key, "{resource}\n{end}")), resource and signature URL-encoded
//! ```
//! It reads no clock: seconds of the Unix era are arguments.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

/// Block of SHA-256, in bytes (RFC 2104's B).
const BLOCK_BYTES: usize = 64;
const SCHEME: &str = "SharedAccessSignature ";

/// A device of a hub, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedAccess {
    /// The hub's host name.
    pub hub: String,
    /// The device's name, which is its client id.
    pub device: String,
    /// Its key.
    pub key: Vec<u8>,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// It is not written as tokens are.
    Malformed,
    /// It is for something else.
    Resource,
    /// It is signed with another key, or altered.
    Signature,
    /// It is over.
    Over,
}

impl SharedAccess {
    /// With a key made up from the device's name.
    #[must_use]
    pub fn new(hub: &str, device: &str) -> Self {
        let key = Sha256::digest(format!("the key of {device}")).to_vec();
        Self { hub: hub.into(), device: device.into(), key }
    }

    /// The key as the platform's console shows it.
    #[must_use]
    pub fn key_base64(&self) -> String {
        BASE64.encode(&self.key)
    }

    /// The user name that a device comes with.
    #[must_use]
    pub fn user(&self) -> String {
        format!("{}/{}/?api-version=2021-04-12", self.hub, self.device)
    }

    /// A token that is valid until `end_unix_s`.
    #[must_use]
    pub fn token(&self, end_unix_s: u64) -> String {
        let resource = encode(&self.resource());
        let signature = encode(&BASE64.encode(self.sign(&resource, end_unix_s)));
        format!("{SCHEME}sr={resource}&sig={signature}&se={end_unix_s}")
    }

    /// When a token ends, if it is good now.
    ///
    /// # Errors
    /// [`BadToken`] says what is wrong.
    pub fn check(&self, token: &str, now_unix_s: u64) -> Result<u64, BadToken> {
        let fields = token.strip_prefix(SCHEME).ok_or(BadToken::Malformed)?;
        let field = |name: &str| {
            let mut all = fields.split('&').filter_map(|field| field.split_once('='));
            all.find(|(key, _)| *key == name).map(|(_, value)| value).ok_or(BadToken::Malformed)
        };
        let (resource, signature, end) = (field("sr")?, field("sig")?, field("se")?);
        let end_unix_s = end.parse().map_err(|_| BadToken::Malformed)?;
        if !decode(resource).ok_or(BadToken::Malformed)?.eq_ignore_ascii_case(&self.resource()) {
            return Err(BadToken::Resource);
        }
        let signature = decode(signature).ok_or(BadToken::Malformed)?;
        if signature != BASE64.encode(self.sign(resource, end_unix_s)) {
            return Err(BadToken::Signature);
        }
        if end_unix_s <= now_unix_s { Err(BadToken::Over) } else { Ok(end_unix_s) }
    }

    fn resource(&self) -> String {
        format!("{}/devices/{}", self.hub, self.device)
    }

    fn sign(&self, resource: &str, end_unix_s: u64) -> [u8; 32] {
        hmac_sha256(&self.key, format!("{resource}\n{end_unix_s}").as_bytes())
    }
}

/// RFC 2104 with SHA-256.
fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5C)).chain_update(inner).finalize().into()
}

/// Everything but RFC 3986's unreserved characters in per cent.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// Undoes [`encode`]; a plus sign is one.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut out = vec![];
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let (digits, more) = rest.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = more;
        } else {
            out.push(*first);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_gives_what_the_rfc_says() {
        // RFC 4231, test cases 1, 2 and 6.
        assert_eq!(
            hex(&hmac_sha256(&[0x0B; 20], b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac_sha256(&[0xAA; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_token_is_good_until_its_end_and_for_its_device_alone() {
        let access = SharedAccess::new("hub.example", "gate-1");
        let token = access.token(1000);
        assert!(token.starts_with("SharedAccessSignature sr=hub.example%2Fdevices%2Fgate-1&sig="), "{token}");
        assert_eq!(access.check(&token, 999), Ok(1000));
        assert_eq!(access.check(&token, 1000), Err(BadToken::Over));
        assert_eq!(access.check(&token.replace("se=1000", "se=2000"), 999), Err(BadToken::Signature));
        assert_eq!(access.check("SharedAccessSignature sr=x", 0), Err(BadToken::Malformed));
        assert_eq!(SharedAccess::new("hub.example", "other").check(&token, 0), Err(BadToken::Resource));
        let stolen = SharedAccess { key: vec![1], ..access };
        assert_eq!(stolen.check(&token, 0), Err(BadToken::Signature));
    }

    #[test]
    fn what_is_written_in_per_cent_reads_back() {
        let text = "a/b+c=ü d";
        assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        assert_eq!(decode("%4"), None);
    }
}
