//! MQTT 5 properties as bytes, and numbers as text. (MQTT 5.0 section 2.2.2.2)

/// Payload Format Indicator: the payload is UTF-8 text.
pub const TEXT_PAYLOAD: [u8; 2] = [0x01, 1];
const CONTENT_TYPE: u8 = 0x03;
const USER_PROPERTY: u8 = 0x26;

/// Appends a user property of this name; `write` writes its value.
pub fn put(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(USER_PROPERTY);
    put_text(out, |out| out.extend_from_slice(name.as_bytes()));
    put_text(out, write);
}

/// Appends the content type.
pub fn put_content_type(out: &mut Vec<u8>, content_type: &str) {
    out.push(CONTENT_TYPE);
    put_text(out, |out| out.extend_from_slice(content_type.as_bytes()));
}

fn put_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out);
    // Names, ids and topics have 1 KB at the most (`ID_BYTES_MAX`, `NAME_BYTES_MAX`), escaped 3, so 16 bits hold the length.
    let bytes = (out.len() - at - 2) as u16;
    out[at..at + 2].copy_from_slice(&bytes.to_be_bytes());
}

/// Appends a number as text.
pub fn put_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
