//! What Python makes of our tickets and keys, with nothing of ours but the documentation.

use std::process::Command;

use crate::common::process::run;
use crate::common::programs::missing;

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

/// Derives the keys of the periods from one number to another: label, secret, period in seconds,
/// first and last number.
const DERIVE: &str = r#"
import sys
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
label, secret = (bytes.fromhex(argument) for argument in sys.argv[1:3])
period, first, last = (int(argument) for argument in sys.argv[3:])
for number in range(first, last + 1):
    info = label + period.to_bytes(8, "big") + number.to_bytes(8, "big")
    salt = b"openssl-resumption ticket key 1"
    print(HKDF(SHA256(), 80, salt, info).derive(secret).hex())
"#;

/// The session in a ticket, which has the right name and MAC.
#[track_caller]
pub(crate) fn open(ticket: &[u8], key: &[u8], order: &str) -> Vec<u8> {
    let said = python(OPEN, &[&hex(ticket), &hex(key), order]);
    unhex(said.trim())
}

/// The keys of these periods, each as name, AES key and HMAC key.
pub(crate) fn derive(label: &[u8], secret: &[u8], period: u64, numbers: [u64; 2]) -> Vec<Vec<u8>> {
    let [first, last] = numbers.map(|number| number.to_string());
    let args = [
        &hex(label),
        &hex(secret),
        &period.to_string(),
        &first,
        &last,
    ];
    let said = python(DERIVE, &args.map(String::as_str));
    said.lines().map(unhex).collect()
}

#[track_caller]
fn python(script: &str, args: &[&str]) -> String {
    let output = run(Command::new("python3").args(["-c", script]).args(args), b"");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !complaint.contains("ModuleNotFoundError"),
        "{complaint}{}",
        missing("the module cryptography of python3")
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
