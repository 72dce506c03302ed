//! What Python makes of our tickets and keys, with nothing of ours but the documentation.

use std::process::Command;

use crate::common::process::{INSTALL, run};

/// Takes a ticket apart: prints the session in it. The key is as in a key file, whose halves come
/// in the order that the third argument gives.
const OPEN: &str = r#"
import hmac, sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
ticket, key = (bytes.fromhex(argument) for argument in sys.argv[1:3])
name, halves = key[:16], key[16:]
half = len(halves) // 2
keys = dict(zip(sys.argv[3].split(), (halves[:half], halves[half:])))
sealed, mac = ticket[:-32], ticket[-32:]
assert sealed[:16] == name, "another name"
assert hmac.compare_digest(hmac.digest(keys["hmac"], sealed, "sha256"), mac), "a wrong MAC"
cipher = Cipher(algorithms.AES(keys["aes"]), modes.CBC(sealed[16:32])).decryptor()
padding = PKCS7(128).unpadder()
padded = cipher.update(sealed[32:]) + cipher.finalize()
der = padding.update(padded) + padding.finalize()
assert der[0] == 0x30, "no SEQUENCE"
header = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7f)
length = der[1] if header == 2 else int.from_bytes(der[2:header], "big")
assert header + length == len(der), "of another length"
print(der.hex())
"#;

/// The session in a ticket, which has the right name and MAC.
#[track_caller]
pub(crate) fn open(ticket: &[u8], key: &[u8], order: &str) -> Vec<u8> {
    let said = python(OPEN, &[&hex(ticket), &hex(key), order]);
    unhex(said.trim())
}

#[track_caller]
fn python(script: &str, args: &[&str]) -> String {
    let output = run(Command::new("python3").args(["-c", script]).args(args), b"");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !complaint.contains("ModuleNotFoundError"),
        "{complaint}{INSTALL}"
    );
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}
