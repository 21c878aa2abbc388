//! The types as a page for people: one file, nothing from elsewhere, readable without a script.

use crate::catalog::{Entry, Shape};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b2a33;background:#fff}\
h1{font-size:1.6rem}h2{margin-top:2.5rem;font-size:1.2rem;border-top:1px solid #cdd8de;padding-top:1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e3eaee;vertical-align:top}\
code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}nav a{margin-right:1rem}.quiet{color:#5b6f7a}\
@media(prefers-color-scheme:dark){body{color:#dbe5ea;background:#12191d}h2{border-color:#33424b}th,td{border-color:#26323a}a{color:#8ecbff}.quiet{color:#93a6b1}}";

/// The page.
pub(super) fn page(entries: &[Entry]) -> String {
    let links: String =
        entries.iter().map(|entry| format!("<a href=\"#{0}\">{0}</a>\n", escape(&anchor(entry)))).collect();
    let sections: String = entries.iter().map(section).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Event types</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Event types</h1>\n\
         <p>A value in JSON is the quantity in its unit. A type never changes under its name and version.</p>\n\
         <nav>\n{links}</nav>\n{sections}</body>\n</html>\n"
    )
}

fn anchor(entry: &Entry) -> String {
    entry.title()
}

fn section(entry: &Entry) -> String {
    let mut rows = String::new();
    self::rows(&entry.body, "", &mut rows);
    let owner = match entry.owner.as_str() {
        "" => String::new(),
        owner => format!("<p class=\"quiet\">Owner: {}</p>\n", escape(owner)),
    };
    format!(
        "<section id=\"{title}\">\n<h2>{title}</h2>\n<p>{description}</p>\n{owner}<table>\n\
         <tr><th>Field</th><th>Type</th><th>Unit</th><th>Step</th><th>What it is</th></tr>\n{rows}</table>\n\
         <p class=\"quiet\">SHA-256 of the definition: <code>{hash}</code></p>\n</section>\n",
        title = escape(&anchor(entry)),
        description = escape(&entry.description),
        hash = escape(&entry.hash),
    )
}

fn rows(shape: &Shape, before: &str, out: &mut String) {
    for part in &shape.parts {
        let place = match (before, part.name.as_str()) {
            (before, "") => before.to_owned(),
            ("", name) => name.to_owned(),
            (before, name) => format!("{before}.{name}"),
        };
        if !part.name.is_empty() {
            let step = match part.scale_exp10 {
                0 => String::new(),
                scale => format!("10<sup>{scale}</sup>"),
            };
            let cells = [
                &escape(&place),
                &escape(&part.words()),
                &escape(&part.unit),
                &step,
                &escape(&part.description),
            ];
            let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
            *out += &format!("<tr>{cells}</tr>\n");
        }
        if part.r#type != "enum" || part.parts.iter().any(|variant| variant.r#type != "unit") {
            rows(part, &place, out);
        }
    }
}

/// Text within an element or a quoted attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_field_and_nothing_from_elsewhere() {
        let page = page(&Entry::built_in());
        assert!(
            page.contains("<td>temperature</td><td>i16</td><td>Cel</td><td>10<sup>-2</sup></td>"),
            "{page}"
        );
        for foreign in ["http:", "https:", "//", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_a_device_says_of_itself_is_text_and_never_markup() {
        let entry = Entry::new(b"\x01\x01a\x01\x11\x01\x08<script>\x03<b>\x00\x03").unwrap();
        let page = page(&[entry]);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>") && !page.contains("<b>"));
    }
}
