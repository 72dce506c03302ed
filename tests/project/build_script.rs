//! The build script refuses what the crate cannot run on.

#[allow(dead_code, reason = "its main is for cargo")]
#[path = "../../build.rs"]
mod build;

fn check(found: &[(&str, &str)]) -> Result<(), String> {
    build::check(|name| {
        let entry = found.iter().find(|(key, _)| *key == name)?;
        Some(entry.1.to_owned())
    })
}

#[test]
fn openssl_3_and_4_are_accepted() {
    for version in ["30000000", "300000cf", "30600030", "40000030"] {
        assert_eq!(check(&[("VERSION_NUMBER", version)]), Ok(()));
    }
}

#[test]
fn other_libraries_are_refused_by_name_with_a_way_out() {
    for (key, name) in [
        ("BORINGSSL", "BoringSSL"),
        ("AWSLC", "AWS-LC"),
        ("LIBRESSL", "LibreSSL"),
    ] {
        let refusal = check(&[(key, "true"), ("VERSION_NUMBER", "30000000")]).unwrap_err();
        assert!(
            refusal.contains(name) && refusal.contains("vendored"),
            "{refusal}"
        );
    }
}

#[test]
fn openssl_1_1_1_and_the_unknown_are_refused() {
    let old = check(&[("VERSION_NUMBER", "1010118f")]).unwrap_err();
    assert!(old.contains("1010118f") && old.contains("3.0"), "{old}");
    assert!(check(&[]).is_err());
    assert!(check(&[("VERSION_NUMBER", "what")]).is_err());
}
