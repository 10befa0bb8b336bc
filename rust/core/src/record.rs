//! Records from columns: ids, texts and properties as JSON, checked, without an object a cell.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::error::Result;
use crate::hash::{self, Digest};

/// Hex digits of an id that is made from kind and text: 128 bits.
const MADE_ID_DIGITS: usize = 32;

/// Bits of an Arrow buffer, from one that need not begin a byte.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    /// The bytes that have the bits, least significant first.
    pub bytes: &'a [u8],
    /// The bit of row 0.
    pub first: usize,
}

impl Bits<'_> {
    fn get(self, row: usize) -> bool {
        let bit = self.first + row;
        self.bytes[bit / 8] >> (bit % 8) & 1 == 1
    }
}

/// The values of a column, one a row; what a row without a value has there is never read.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// None anywhere.
    Null,
    /// Truth values.
    Bools(Bits<'a>),
    /// Whole numbers.
    Ints(&'a [i64]),
    /// Whole numbers that may be larger.
    Naturals(&'a [u64]),
    /// Numbers.
    Floats(&'a [f64]),
    /// Texts: that of row `n` is `bytes[offsets[n]..offsets[n + 1]]`, which may be anything.
    Texts {
        /// One more than there are rows.
        offsets: &'a [i64],
        /// All texts.
        bytes: &'a [u8],
    },
}

/// A column; `valid` says which rows have a value, None that all do.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    /// The values.
    pub values: Values<'a>,
    /// Which rows have one.
    pub valid: Option<Bits<'a>>,
}

impl Column<'_> {
    fn has(&self, row: usize) -> bool {
        self.valid.is_none_or(|valid| valid.get(row))
    }

    /// A copy, and what is checked is the copy: the memory is another library's.
    fn text(&self, row: usize) -> Option<String> {
        let Values::Texts { offsets, bytes } = self.values else {
            return None;
        };
        let start = usize::try_from(offsets[row]).ok()?;
        let end = usize::try_from(offsets[row + 1]).ok()?;
        String::from_utf8(bytes.get(start..end)?.to_vec()).ok()
    }
}

/// A property: its key as JSON, its column, and whether that column's texts are JSON already.
pub struct Property<'a> {
    /// The key, in quotes.
    pub key: String,
    /// The values.
    pub column: Column<'a>,
    /// Whether a text is JSON and no string.
    pub is_json: bool,
}

/// What of a table is what of a record.
pub struct Layout<'a> {
    /// The kind of all records, for ids that are made.
    pub kind: &'a str,
    /// Columns of the id, joined by `/`; none has it made.
    pub ids: Vec<Column<'a>>,
    /// Whether a record without a value in the id's column has its id made.
    pub id_is_optional: bool,
    /// Columns of the text, joined by a blank line, blank ones left out.
    pub texts: Vec<Column<'a>>,
    /// The properties.
    pub properties: Vec<Property<'a>>,
    /// Bytes of an id at most.
    pub id_bytes: usize,
    /// Bytes of a text, or of properties, at most.
    pub text_bytes: usize,
    /// Characters of a text that is one chunk.
    pub chunk_chars: usize,
}

/// One record; `chunk` is the id and hash of its one chunk, where its text is no longer than one.
pub struct Record {
    /// The id.
    pub id: String,
    /// The text, None where it is blank.
    pub text: Option<String>,
    /// JSON, None where there are no columns of properties.
    pub properties: Option<String>,
    /// The chunk's id and canonical hash.
    pub chunk: Option<(String, Digest)>,
}

/// The records of a table of `rows` rows, or None where one of them cannot be stored as it is, or
/// has the id of another: such a table is for somebody who looks at each record and says why.
///
/// # Errors
/// A kind that cannot begin the hash from which an id is made.
pub fn records(layout: &Layout<'_>, rows: usize) -> Result<Option<Vec<Record>>> {
    let mut records = Vec::with_capacity(rows);
    for row in 0..rows {
        let Some(text) = text_of(layout, row) else {
            return Ok(None);
        };
        let Some(id) = id_of(layout, row, &text)? else {
            return Ok(None);
        };
        let Some(properties) = properties_of(layout, row) else {
            return Ok(None);
        };
        records.push(Record {
            id,
            text: some(text),
            properties: some(properties),
            chunk: None,
        });
    }
    let ids: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    if ids.len() != records.len() {
        return Ok(None);
    }
    add_chunks(&mut records, layout.chunk_chars)?;
    Ok(Some(records))
}

/// Names and hashes the chunk of each text that is no longer than one.
fn add_chunks(records: &mut [Record], chunk_chars: usize) -> Result<()> {
    let (mut places, mut ids, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for (place, record) in records.iter().enumerate() {
        if let Some(text) = record.text.as_deref()
            && text.chars().nth(chunk_chars).is_none()
        {
            places.push(place);
            ids.push(format!("{}#0", record.id));
            texts.push(text);
        }
    }
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let hashes = hash::canonical_chunk_hashes(&names, &texts)?;
    for ((place, id), hash) in places.into_iter().zip(ids).zip(hashes) {
        records[place].chunk = Some((id, hash));
    }
    Ok(())
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Empty where there is none; None where it cannot be stored.
fn text_of(layout: &Layout<'_>, row: usize) -> Option<String> {
    let mut joined = String::new();
    for column in &layout.texts {
        if !column.has(row) || matches!(column.values, Values::Null) {
            continue;
        }
        let text = column.text(row)?;
        if text.chars().all(is_space) {
            continue;
        }
        if joined.is_empty() {
            joined = text;
        } else {
            joined.push_str("\n\n");
            joined.push_str(&text);
        }
    }
    (joined.len() <= layout.text_bytes).then_some(joined)
}

/// White space as Python has it: Unicode's, and four control characters.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// None where it is no id.
fn id_of(layout: &Layout<'_>, row: usize, text: &str) -> Result<Option<String>> {
    let is_missing = match layout.ids.as_slice() {
        [] => true,
        [column] => {
            layout.id_is_optional && (!column.has(row) || matches!(column.values, Values::Null))
        }
        _ => false,
    };
    if is_missing {
        if text.is_empty() {
            return Ok(None);
        }
        // The frame of a chunk's hash is that of a made id's: a name, a NUL, a text.
        let mut made = hash::hex(&hash::canonical_chunk_hash(layout.kind, text)?);
        made.truncate(MADE_ID_DIGITS);
        return Ok(Some(made));
    }
    let mut joined: Option<String> = None;
    for column in &layout.ids {
        let part = match column.values {
            _ if !column.has(row) => None,
            Values::Texts { .. } => column.text(row),
            Values::Ints(values) => Some(values[row].to_string()),
            Values::Naturals(values) => Some(values[row].to_string()),
            Values::Null | Values::Bools(_) | Values::Floats(_) => None,
        };
        let Some(part) = part.filter(|part| !part.is_empty()) else {
            return Ok(None);
        };
        joined = Some(match joined {
            None => part,
            Some(before) => format!("{before}/{part}"),
        });
    }
    Ok(joined.filter(|id| id.len() <= layout.id_bytes && !id.as_bytes().contains(&0)))
}

/// Empty where there are no columns of them; None for what JSON cannot say.
fn properties_of(layout: &Layout<'_>, row: usize) -> Option<String> {
    if layout.properties.is_empty() {
        return Some(String::new());
    }
    let mut json = String::new();
    for property in &layout.properties {
        json.push(if json.is_empty() { '{' } else { ',' });
        json.push_str(&property.key);
        json.push(':');
        push_json(&mut json, property, row)?;
    }
    json.push('}');
    (json.len() <= layout.text_bytes).then_some(json)
}

fn push_json(json: &mut String, property: &Property<'_>, row: usize) -> Option<()> {
    let column = &property.column;
    if !column.has(row) {
        json.push_str("null");
        return Some(());
    }
    match column.values {
        Values::Null => json.push_str("null"),
        Values::Bools(bits) => json.push_str(if bits.get(row) { "true" } else { "false" }),
        Values::Ints(values) => write!(json, "{}", values[row]).ok()?,
        Values::Naturals(values) => write!(json, "{}", values[row]).ok()?,
        Values::Floats(values) => push_float(json, values[row])?,
        Values::Texts { .. } if property.is_json => json.push_str(&column.text(row)?),
        Values::Texts { .. } => push_string(json, &column.text(row)?),
    }
    Some(())
}

/// A float as Python writes it, so that a record is the same text whichever way it came.
fn push_float(json: &mut String, value: f64) -> Option<()> {
    if !value.is_finite() {
        return None;
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..16).contains(&exponent) {
        let start = json.len();
        write!(json, "{value}").ok()?;
        if !json[start..].contains('.') {
            json.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(json, "{digits}e{sign}{:02}", exponent.unsigned_abs()).ok()?;
    }
    Some(())
}

/// A string as Python writes it with `ensure_ascii=False`.
fn push_string(json: &mut String, text: &str) {
    json.push('"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        json.push_str(&text[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => json.push_str("\\\""),
            b'\\' => json.push_str("\\\\"),
            b'\n' => json.push_str("\\n"),
            b'\r' => json.push_str("\\r"),
            b'\t' => json.push_str("\\t"),
            0x08 => json.push_str("\\b"),
            0x0c => json.push_str("\\f"),
            _ => write!(json, "\\u{byte:04x}").expect("a String takes every write"),
        }
    }
    json.push_str(&text[copied..]);
    json.push('"');
}
