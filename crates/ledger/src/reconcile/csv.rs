//! CSV after RFC 4180: quotes, doubled quotes, line ends within quotes.

/// Most bytes of a record: more is no table.
const LONGEST: usize = 1 << 20;

/// The records of a text with the line on which each begins.
///
/// # Errors
/// A quote that is never closed, with its line.
pub(super) fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = Vec::new();
    let mut record: Vec<String> = Vec::new();
    let mut field = String::new();
    let (mut quoted, mut line, mut begun) = (false, 1, 1);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted && rest.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                finish(&mut records, (begun, std::mem::take(&mut record)));
                begun = line;
            }
            c if field.len() < LONGEST => field.push(c),
            _ => return Err(format!("line {begun}: longer than {LONGEST} bytes")),
        }
    }
    if quoted {
        return Err(format!("line {begun}: a quote is opened and never closed"));
    }
    record.push(field);
    finish(&mut records, (begun, record));
    Ok(records)
}

/// Empty lines are no records.
fn finish(records: &mut Vec<(usize, Vec<String>)>, record: (usize, Vec<String>)) {
    if record.1.iter().any(|field| !field.trim().is_empty()) {
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::records;

    #[test]
    fn quotes_commas_and_line_ends() {
        let read = records("\u{feff}a,b\r\n\"x, y\",\"he said \"\"no\"\"\nthen\"\r\n\r\n1,2").unwrap();
        let told: Vec<(usize, Vec<&str>)> = read.iter().map(|(line, r)| (*line, r.iter().map(String::as_str).collect())).collect();
        assert_eq!(told, [(1, vec!["a", "b"]), (2, vec!["x, y", "he said \"no\"\nthen"]), (5, vec!["1", "2"])]);
        assert!(records("a\n\"b").unwrap_err().contains("line 2"));
        assert_eq!(records("").unwrap(), []);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[a\",\r\n]{0,40}") {
            let _ = records(&text);
        }
    }
}
