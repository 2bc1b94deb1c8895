use std::fs;

use super::*;
use crate::bundle::disk::tests::draft;
use crate::bundle::{MANIFEST_FILE, MODEL_FILE, Published, disk};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; BYTES]).unwrap()
}

fn signed(root: &Path, by: &SigningKey) -> Published {
    disk::publish_signed(root, draft(), &[(MODEL_FILE, b"onnx bytes")], Some(by)).unwrap()
}

fn checked(root: &Path, version: u32, trusted: &[PublicKey]) -> Result<(), String> {
    let (_, digest, _) = Bundle::read_manifest(root, Kind::Ttl, version).map_err(|e| e.to_string())?;
    check(root, (Kind::Ttl, version), &digest, trusted).map_err(|e| e.to_string())
}

#[test]
fn keys_are_written_and_read_and_the_secret_is_not_shown() {
    let one = key(7);
    let again = SigningKey::parse(&one.to_text()).unwrap();
    assert_eq!((one.public(), PublicKey::parse(&one.public().to_string())), (again.public(), Some(again.public())));
    assert!(!format!("{one:?}").contains("0707"));
    for wrong in ["", "ed25519:", "ed25519:00", "farthing-signing-key:zz", "rsa:00"] {
        assert!(PublicKey::parse(wrong).is_none() && SigningKey::parse(wrong).is_none(), "{wrong}");
    }
    // RFC 8032, 7.1, test 1.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let known = SigningKey::parse(&format!("farthing-signing-key:{seed}")).unwrap().public().to_string();
    assert_eq!(known, "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
}

#[test]
fn a_version_is_taken_by_any_of_the_trusted_keys_and_by_no_other() {
    let root = tempfile::tempdir().unwrap();
    let (old, new, stranger) = (key(1), key(2), key(3));
    signed(root.path(), &old);
    assert_eq!(checked(root.path(), 1, &[old.public()]), Ok(()));
    assert_eq!(checked(root.path(), 1, &[new.public(), old.public()]), Ok(()), "one of them is enough");
    assert_eq!(checked(root.path(), 1, &[]), Ok(()), "nobody asks");
    let refused = checked(root.path(), 1, &[stranger.public()]).unwrap_err();
    assert!(refused.contains("check `signed`") && refused.contains(&old.public().id()) && refused.contains("trusted_keys"), "{refused}");
    // The next key signs, too; then the old one is given up.
    sign_version(root.path(), (Kind::Ttl, 1), &new).unwrap();
    sign_version(root.path(), (Kind::Ttl, 1), &new).unwrap();
    assert_eq!(checked(root.path(), 1, &[new.public()]), Ok(()));
    let lines = fs::read_to_string(version_dir(root.path(), Kind::Ttl, 1).join(SIGNATURE_FILE)).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn what_was_changed_or_never_signed_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let own = key(1);
    let trusted = [own.public()];
    let done = signed(root.path(), &own);
    let (manifest, sig) = (done.dir.join(MANIFEST_FILE), done.dir.join(SIGNATURE_FILE));
    let (good, signature) = (fs::read_to_string(&manifest).unwrap(), fs::read_to_string(&sig).unwrap());

    let tampered = good.replace("\"trainer\": \"", "\"trainer\": \"other ");
    assert_ne!(tampered, good);
    fs::write(&manifest, tampered).unwrap();
    assert!(checked(root.path(), 1, &trusted).unwrap_err().contains("not of this manifest"));
    fs::write(&manifest, &good).unwrap();

    // Each digit of the signature matters.
    let begins = signature.rfind(' ').unwrap() + 1;
    for at in (begins..signature.trim_end().len()).step_by(7) {
        let mut bytes = signature.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        fs::write(&sig, bytes).unwrap();
        assert!(checked(root.path(), 1, &trusted).is_err(), "digit {at}");
    }
    for (text, says) in [("", "has no signature"), ("rsa x y\n", "has no signature"), ("ed25519\n", "has no signature")] {
        fs::write(&sig, text).unwrap();
        assert!(checked(root.path(), 1, &trusted).unwrap_err().contains(says), "{text:?}");
    }
    fs::write(&sig, vec![b'x'; 1 << 20]).unwrap();
    assert!(checked(root.path(), 1, &trusted).unwrap_err().contains("longer than"));
    fs::remove_file(&sig).unwrap();
    assert!(checked(root.path(), 1, &trusted).unwrap_err().contains("has no manifest.sig"));

    // A signature of one version is none of another that is alike.
    disk::publish(root.path(), draft(), &[(MODEL_FILE, b"onnx bytes")]).unwrap();
    fs::write(version_dir(root.path(), Kind::Ttl, 2).join(SIGNATURE_FILE), &signature).unwrap();
    assert!(checked(root.path(), 2, &trusted).is_err());
    fs::write(&sig, signature).unwrap();
    assert_eq!(checked(root.path(), 1, &trusted), Ok(()));
}

#[test]
fn nothing_that_is_damaged_is_signed() {
    let root = tempfile::tempdir().unwrap();
    let done = disk::publish(root.path(), draft(), &[(MODEL_FILE, b"onnx bytes")]).unwrap();
    fs::write(done.dir.join(MODEL_FILE), b"other bytes").unwrap();
    assert!(sign_version(root.path(), (Kind::Ttl, 1), &key(1)).is_err());
    assert!(sign_version(root.path(), (Kind::Ttl, 9), &key(1)).is_err());
}
