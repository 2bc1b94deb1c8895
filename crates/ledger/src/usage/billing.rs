//! Whether a request to a provider that bills by the token is billed at all.

use http::Method;

/// Last words of paths that only prepare, count or end something. Of these alone it is sure, whoever speaks the dialect.
const PREPARES: [&str; 6] = ["count_tokens", "input_tokens", "cancel", "batches", "files", "uploads"];
/// The same of Gemini, whose paths end with what is done with a name.
const VERBS: [&str; 5] = ["countTokens", "computeTokens", "batchGenerateContent", "asyncBatchEmbedContent", "cancel"];

/// How the tokens of a call's answer are billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Billing {
    /// With the call: what its answer tells, or an estimate where it tells nothing.
    #[default]
    Now,
    /// With the call, and told later: its answer has come before its work is done.
    Later,
    /// Not with this call: what tokens its answer tells of are another's.
    Never,
}

/// Whether a request asks after what is there already, or prepares, counts or ends something: no provider of a known dialect bills tokens for
/// that. Objects that are asked for hold the usage of the call that made them.
pub fn asks_after(method: &Method, path: &str) -> bool {
    if method != Method::POST {
        return true;
    }
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, verb)) => VERBS.contains(&verb),
        // The name of a stored completion: its notes are changed.
        None => PREPARES.contains(&last) || last.starts_with("chatcmpl"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_billed_and_what_is_asked_after_is_not() {
        let post = |path: &str| asks_after(&Method::POST, path);
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/responses",
            "/v1/embeddings",
            "/v1/images/generations",
            "/v1/messages",
            "/v1/complete",
            "/v1/threads/t/runs",
            "/v1/responses/compact",
            "/openai/deployments/files/chat/completions",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
            "/v1beta/models/gemini-embedding-001:batchEmbedContents",
            "/v1beta/cachedContents",
        ] {
            assert!(!post(path), "{path}");
        }
        for path in [
            "/v1/messages/count_tokens",
            "/v1/responses/input_tokens",
            "/v1/responses/resp_1/cancel",
            "/v1/messages/batches",
            "/v1/batches/",
            "/v1/files",
            "/v1/uploads",
            "/v1/chat/completions/chatcmpl-1",
            "/v1beta/models/gemini-2.5-flash:countTokens",
            "/v1beta/models/gemini-2.5-flash:batchGenerateContent",
            "/v1beta/batches/1:cancel",
        ] {
            assert!(post(path), "{path}");
        }
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            assert!(asks_after(&method, "/v1/responses/resp_1"));
        }
    }
}
