use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use http::{HeaderName, HeaderValue};

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-z/0-9]{0,12}".prop_map(Arc::from)
}
fn span() -> impl Strategy<Value = Span> {
    (0..u64::MAX).prop_map(Span::from_nanos)
}
fn time() -> impl Strategy<Value = Time> {
    any::<i64>().prop_map(Time::from_nanos)
}
fn header_map() -> impl Strategy<Value = HeaderMap> {
    let name = "[a-z][a-z0-9-]{0,8}".prop_map(|n| HeaderName::from_bytes(n.as_bytes()).unwrap());
    let value = vec(prop_oneof![0x20u8..0x7f, 0x80u8..0xff], 0..12).prop_map(|v| HeaderValue::from_bytes(&v).unwrap());
    vec((name, value), 0..6).prop_map(|pairs| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    })
}
fn by() -> impl Strategy<Value = By> {
    prop_oneof![
        prop::sample::select(vec![By::Rule("static"), By::Rule("d3"), By::Fallback("no-library"), By::Fallback("late")]),
        any::<u32>().prop_map(By::Table),
        any::<u32>().prop_map(By::Model),
        text().prop_map(By::Override),
    ]
}
fn variant() -> impl Strategy<Value = VariantTtl> {
    (text(), span(), span(), by()).prop_map(|(variant, ttl, stale, by)| VariantTtl { variant, ttl, stale, by })
}
fn facts() -> impl Strategy<Value = Facts> {
    let spans = (span(), option::of(span()), option::of(span()), option::of(span()), option::of(span()));
    let rest = (any::<[bool; 3]>(), time(), option::of(time()), option::of("\"[a-z]{0,8}\""));
    (spans, rest).prop_map(|((age, explicit, heuristic, swr, sie), (flags, date, modified, etag))| Facts {
        initial_age: age,
        explicit,
        heuristic,
        no_cache: flags[0],
        must_revalidate: flags[1],
        immutable: flags[2],
        stale_while_revalidate: swr,
        stale_if_error: sie,
        date,
        last_modified: modified,
        etag: etag.map(|e| HeaderValue::from_str(&e).unwrap()),
    })
}
fn subject() -> impl Strategy<Value = Arc<Subject>> {
    (any::<u128>(), text(), text(), text())
        .prop_map(|(key, tenant, route, path)| Arc::new(Subject { key: KeyHash(key), tenant, route, path }))
}
fn selected() -> impl Strategy<Value = Selected> {
    (vec("[a-z][a-z-]{0,8}", 1..4), any::<u128>()).prop_map(|(names, key)| Selected {
        names: names.iter().map(|n| HeaderName::from_bytes(n.as_bytes()).unwrap()).collect(),
        key: KeyHash(key),
    })
}
prop_compose! {
    fn entry()(
        subject in subject(), selected in option::of(selected()), status in 100u16..1000, headers in header_map(),
        body in vec(any::<u8>(), 0..200), trailers in option::of(header_map()), fetched in any::<i32>(), facts in facts(),
        variants in vec(variant(), 0..=MAX_VARIANTS),
        (price, decision, tags) in (option::of(any::<i64>()), option::of(any::<u64>()), vec(text(), 0..4)),
        (call, epoch, canonical_hash, requests) in (any::<u64>(), any::<u64>(), any::<u64>(), 0u64..20),
    ) -> Entry {
        let mut stats = KeyStats::default();
        (0..requests).for_each(|i| stats.on_request(Time::from_millis(1_000_000 + i as i64 * 777)));
        Entry {
            subject, selected, status: StatusCode::from_u16(status).unwrap(), headers: headers.into(), body: body.into(), trailers: trailers.map(Box::new),
            fetched_at: Time::from_millis(i64::from(fetched)), facts, variants, stats, price: price.map(Money::from_nanos),
            call: CallId(call), decision: decision.map(DecisionId), tags, epoch, canonical_hash,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn an_entry_survives_its_flat_form(entry in entry()) {
        let flat = Bytes::from(entry.encode());
        prop_assert_eq!(Entry::decode(&flat, &entry.subject), Ok(entry));
    }

    #[test]
    fn damage_is_noticed(entry in entry(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut flat = entry.encode();
        let at = at.index(flat.len());
        flat[at] ^= 1 << bit;
        let found = Entry::decode(&Bytes::from(flat), &entry.subject).unwrap_err();
        prop_assert_eq!(found, if at < 6 { DecodeError::Foreign } else { DecodeError::Damaged });
    }

    #[test]
    fn a_part_is_no_entry(entry in entry(), cut in any::<prop::sample::Index>(), more in vec(any::<u8>(), 1..9)) {
        let flat = entry.encode();
        let part = Bytes::copy_from_slice(&flat[..cut.index(flat.len())]);
        prop_assert!(Entry::decode(&part, &entry.subject).is_err());
        let longer: Bytes = flat.into_iter().chain(more).collect();
        prop_assert_eq!(Entry::decode(&longer, &entry.subject), Err(DecodeError::Damaged));
    }

    #[test]
    fn another_tenants_entry_is_a_miss(entry in entry(), other in subject()) {
        let flat = Bytes::from(entry.encode());
        let mine = Arc::new(Subject { tenant: format!("{}x", entry.subject.tenant).into(), ..(*entry.subject).clone() });
        prop_assert_eq!(Entry::decode(&flat, &mine), Err(DecodeError::OtherKey));
        prop_assert_eq!(Entry::decode(&flat, &other), Err(DecodeError::OtherKey));
    }

    #[test]
    fn whatever_bytes_come_nothing_breaks(content in vec(any::<u8>(), 0..300), subject in subject()) {
        // With a right checksum, so that the reader itself is met.
        let mut flat = b"FRTH\x01\x00".to_vec();
        flat.extend_from_slice(&blake3::hash(&content).as_bytes()[..16]);
        flat.extend_from_slice(&subject.key.0.to_le_bytes());
        flat.extend_from_slice(&content);
        prop_assert!(Entry::decode(&Bytes::from(flat), &subject).is_err());
        let mut flat = b"FRTH\x01\x00".to_vec();
        flat.extend_from_slice(&blake3::hash(&content).as_bytes()[..16]);
        flat.extend_from_slice(&content);
        prop_assert!(Entry::decode(&Bytes::from(flat), &subject).is_err());
    }

    #[test]
    fn what_is_packed_comes_back_whole(entry in entry(), named in any::<bool>(), mark in any::<u64>(), prior in 0.0..1.0) {
        let mut entry = entry;
        if let Some(etag) = entry.facts.etag.clone().filter(|_| named) {
            let mut headers = entry.headers.view().to_map(1);
            headers.insert(http::header::ETAG, etag);
            entry.headers = headers.into();
        }
        let packed = Packed::of(&entry, (Arc::new(Shape::of(&entry)), true), mark);
        prop_assert_eq!(&packed.to_entry(&entry.stats, entry.epoch), &entry);
        prop_assert_eq!((packed.stored_key(), packed.primary(), packed.path()), (entry.stored_key(), entry.subject.key, &*entry.subject.path));
        prop_assert_eq!((packed.body(), packed.body_len()), (entry.body.clone(), entry.body.len()));
        prop_assert_eq!((packed.status(), packed.fetched_at(), packed.call()), (entry.status, entry.fetched_at, entry.call));
        prop_assert_eq!((packed.price(), packed.decision(), packed.mark()), (entry.price, entry.decision, mark));
        prop_assert_eq!((packed.reuse(), packed.facts()), (entry.facts.reuse(), entry.facts.clone()));
        prop_assert_eq!((packed.etag(), packed.last_modified()), (entry.facts.etag.clone(), entry.facts.last_modified));
        let fresh_for = entry.variants.iter().map(|v| v.ttl).max().or(entry.facts.explicit).unwrap_or_default();
        prop_assert_eq!((packed.fresh_for(), packed.longest()), (fresh_for, entry.longest()));
        prop_assert_eq!((packed.selected(), packed.subject()), (entry.selected.clone(), Subject::clone(&entry.subject)));
        prop_assert_eq!(packed.tags().collect::<Vec<_>>(), entry.tags.iter().map(|tag| &**tag).collect::<Vec<_>>());
        prop_assert_eq!(packed.trailers(), entry.trailers.as_deref().cloned());
        prop_assert_eq!(packed.hazard(prior), entry.stats.hazard(prior));
        let names = entry.variants.iter().map(|v| Arc::clone(&v.variant)).chain(["another".into()]);
        for name in names.collect::<Vec<_>>() {
            prop_assert_eq!(packed.variant(&name), VariantTtl::of(&entry.variants, &name).map(ChosenTtl::from));
        }
    }

    #[test]
    fn size_grows_with_everything(entry in entry(), more in 1usize..1000) {
        let mut larger = entry.clone();
        larger.body = vec![0; entry.body.len() + more].into();
        let size = |entry: &Entry| Packed::alone(entry).allocations().iter().sum::<usize>();
        prop_assert_eq!(size(&larger), size(&entry) + more);
        larger.tags.push("one more".into());
        let mut headers = larger.headers.view().to_map(1);
        headers.append("x-more", HeaderValue::from_static("y"));
        larger.headers = headers.into();
        prop_assert!(size(&larger) >= size(&entry) + more + 8 + 7);
    }
}

/// The first version's bytes, frozen: later releases must read them.
#[test]
fn version_1_is_read() {
    let subject = Arc::new(Subject { key: KeyHash(5), tenant: "acme".into(), route: "geo".into(), path: "/v1".into() });
    let entry = Entry {
        subject: Arc::clone(&subject),
        selected: None,
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"a\""))]).into(),
        body: Bytes::from_static(b"hello"),
        trailers: None,
        fetched_at: Time::from_millis(1_700_000_000_123),
        facts: Facts { explicit: Some(Span::from_secs(60)), date: Time::from_millis(1_700_000_000_000), ..Facts::default() },
        variants: vec![VariantTtl { variant: "".into(), ttl: Span::from_secs(9), stale: Span::ZERO, by: By::Model(3) }],
        stats: KeyStats::default(),
        price: Some(Money::from_nanos(2_000_000)),
        call: CallId(8),
        decision: None,
        tags: vec!["red".into()],
        epoch: 1,
        canonical_hash: 77,
    };
    let flat = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/entry-v1.bin")).unwrap_or_default();
    assert_eq!(Entry::decode(&Bytes::from(flat), &subject), Ok(entry));
}
