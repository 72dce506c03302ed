//! A key file that becomes a FIFO between the look at it and the opening of it.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "the standard library makes no FIFO"
)]
use openssl_resumption::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;
#[test]
fn fifo() {
    let dir = std::env::temp_dir().join(format!("h2-fifo-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (path, a, b) = (dir.join("k"), dir.join("file"), dir.join("fifo"));
    std::fs::write(&a, [7u8; 80]).unwrap();
    let c = std::ffi::CString::new(b.to_str().unwrap()).unwrap();
    assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, path, a, b) = (stop.clone(), path.clone(), a.clone(), b.clone());
        std::os::unix::fs::symlink(&a, &path).unwrap();
        let tmp = dir.join("tmp");
        std::thread::spawn(move || {
            let mut n = 0u64;
            while !stop.load(Relaxed) {
                n += 1;
                let _ = std::os::unix::fs::symlink(if n % 2 == 0 { &a } else { &b }, &tmp);
                let _ = std::fs::rename(&tmp, &path);
            }
            n
        })
    };
    let (tx, rx) = mpsc::channel();
    let p = path.clone();
    std::thread::spawn(move || {
        for i in 0..2_000_000u64 {
            let _ = KeyDialect::Nginx.read([&p]);
            if tx.send(i).is_err() {
                break;
            }
        }
    });
    let mut last = 0;
    let start = std::time::Instant::now();
    let hung = loop {
        match rx.recv_timeout(Duration::from_secs(3)) {
            Ok(i) => last = i,
            Err(_) => break true,
        }
        if start.elapsed() > Duration::from_secs(20) {
            break false;
        }
    };
    stop.store(true, Relaxed);
    let swaps = swapper.join().unwrap();
    println!("hung: {hung} after {last} reads, {swaps} swaps");
    let _ = std::fs::remove_dir_all(&dir);
    assert!(!hung, "the reader waits in open() of a FIFO for ever");
}
