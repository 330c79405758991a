//! The names that a certificate is for, read from its bytes.
//!
//! In: a certificate (X.509, RFC 5280, in DER). Out: the DNS names of its `subjectAltName`, in lower case. Never judges
//! a certificate: that is the client's part. What it cannot read has no names.

/// `id-ce-subjectAltName`, 2.5.29.17, as DER has it.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
/// `extensions [3]` of a `TBSCertificate`.
const EXTENSIONS: u8 = 0xa3;
/// `dNSName [2]` of a `GeneralName`.
const DNS_NAME: u8 = 0x82;

/// See the module.
pub(crate) fn names(certificate: &[u8]) -> Vec<String> {
    read(certificate).unwrap_or_default()
}

fn read(certificate: &[u8]) -> Option<Vec<String>> {
    let to_be_signed = inside(inside(certificate, SEQUENCE)?, SEQUENCE)?;
    let extensions = inside(find(to_be_signed, |tag, _| tag == EXTENSIONS)?, SEQUENCE)?;
    let extension =
        find(extensions, |tag, content| tag == SEQUENCE && inside(content, OBJECT) == Some(SUBJECT_ALT_NAME))?;
    let value = find(extension, |tag, _| tag == OCTETS)?;
    let names = Items(inside(value, SEQUENCE)?).filter(|(tag, _)| *tag == DNS_NAME);
    let text = names.filter_map(|(_, name)| std::str::from_utf8(name).ok());
    Some(text.map(str::to_ascii_lowercase).collect())
}

/// The content of the first item, which must be of this kind.
fn inside(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    Items(bytes).next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

fn find(bytes: &[u8], is_it: impl Fn(u8, &[u8]) -> bool) -> Option<&[u8]> {
    Items(bytes).find(|(tag, content)| is_it(*tag, content)).map(|(_, content)| content)
}

/// Items one after the other, each a tag and its content; ends at what is not one.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            // The number of bytes of the length; four of them are 4 GiB.
            long @ 0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}
