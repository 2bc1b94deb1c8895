//! Prompts of OpenAI's dialect as text: what they begin with, and the key that is put in.

use std::hash::Hasher;

use serde::Deserialize;
use serde_json::value::RawValue;
use siphasher::sip::SipHasher13;

/// The key of the field that clients may set themselves.
pub const KEY: &[u8] = b"\"prompt_cache_key\"";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Role<'a> {
    #[serde(borrow, default)]
    role: Option<std::borrow::Cow<'a, str>>,
}

/// What a prompt begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Tools and system prompt, and how many bytes they have.
    pub head: (u64, u64),
    /// These and the first turn.
    pub talk: u64,
}

/// Reads what a prompt begins with; `seed` has taken who asks, and of what. `None` where it is not one as it is documented.
pub fn read(body: &[u8], mut seed: SipHasher13) -> Option<Beginning> {
    let Body { tools, instructions, messages, input } = serde_json::from_slice(body).ok()?;
    let turns: Vec<&RawValue> = match (messages, input) {
        (Some(messages), None) => messages,
        (None, Some(input)) if input.get().starts_with('[') => serde_json::from_str(input.get()).ok()?,
        (None, Some(input)) => vec![input],
        _ => return None,
    };
    let mut bytes = 0;
    let mut take = |text: &str| {
        seed.write_usize(text.len());
        seed.write(text.as_bytes());
        bytes += text.len() as u64;
        (seed.finish(), bytes)
    };
    let mut head = take("");
    for text in [tools, instructions].into_iter().flatten() {
        head = take(text.get());
    }
    let systems = turns.iter().take_while(|turn| is_system(turn)).count();
    for turn in turns.iter().take(systems) {
        head = take(turn.get());
    }
    let talk = turns.get(systems).map_or(head.0, |turn| take(turn.get()).0);
    Some(Beginning { head, talk })
}

fn is_system(turn: &RawValue) -> bool {
    let role = serde_json::from_str::<Role<'_>>(turn.get()).ok().and_then(|turn| turn.role);
    role.is_some_and(|role| matches!(&*role, "system" | "developer"))
}

/// The body with a key. All other bytes stay as they are.
pub fn with_key(body: &[u8], key: u64) -> Option<Vec<u8>> {
    let start = body.iter().position(|byte| *byte == b'{')? + 1;
    let mut out = Vec::with_capacity(body.len() + 48);
    out.extend_from_slice(body.get(..start)?);
    out.extend_from_slice(format!("\"prompt_cache_key\":\"fth-{key:016x}\",").as_bytes());
    out.extend_from_slice(body.get(start..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Beginning {
        read(body.as_bytes(), SipHasher13::new()).unwrap()
    }

    #[test]
    fn prompts_are_known_by_what_they_begin_with() {
        let chat = |system: &str, first: &str, rest: &str| {
            of(&format!(
                r#"{{"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{first}"}}{rest}],"model":"m"}}"#
            ))
        };
        let one = chat("s", "a", "");
        assert_eq!(one, chat("s", "a", r#",{"role":"assistant","content":"x"},{"role":"user","content":"b"}"#), "the next turn");
        assert_eq!(one.head, chat("s", "b", "").head);
        assert_ne!(one.talk, chat("s", "b", "").talk);
        assert_ne!(one.head, chat("t", "a", "").head);
        let answer = |text: &str| of(&format!(r#"{{"model":"m","instructions":"s","input":{text}}}"#));
        assert_eq!(answer("\"a\"").head, answer(r#"[{"role":"user","content":"b"}]"#).head);
        assert_eq!(answer(r#"[{"role":"developer","content":"d"},{"role":"user","content":"b"}]"#).head.1, 3 + 34);
        for other in ["", "[]", "{}", "{\"messages\":7}", "{\"messages\":[],\"input\":\"a\"}"] {
            assert!(read(other.as_bytes(), SipHasher13::new()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_key_is_put_in_and_all_else_stays() {
        let keyed = with_key(b" { \"messages\" : []}", 255).unwrap();
        assert_eq!(std::str::from_utf8(&keyed), Ok(" {\"prompt_cache_key\":\"fth-00000000000000ff\", \"messages\" : []}"));
    }
}
