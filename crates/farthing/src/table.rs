//! Plain tables for terminals and pipes.

use std::io::Write;

/// Writes to standard output. A reader that has left (`| head`) is no error, and no panic as it is with `print!`.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Columns as wide as their widest cell, two spaces apart, no trailing spaces.
pub fn render(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(|cell| cell.to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let text = super::render(&["a", "bb"], [vec!["1".to_owned(), "x".to_owned()], vec!["long".to_owned(), "é".to_owned()]]);
        assert_eq!(text, "A     BB\n1     x\nlong  é\n");
    }
}
