//! Paths inside images.
//!
//! In: paths as written in Dockerfiles and layers. Out: paths without a leading slash, without empty
//! parts, `.` and `..`; the root is the empty text. Never: a path that climbs out of its root.

/// `path` seen from the folder `base`; `..` ends at the root, as in a real file system.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = match path.starts_with('/') {
        true => Vec::new(),
        false => base.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The parts of a COPY source; `None` when it climbs with `..`.
pub(crate) fn source_parts(path: &str) -> Option<Vec<&str>> {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    (!parts.contains(&"..")).then_some(parts)
}

pub(crate) fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The folders above `path`, outermost first, without the root.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// The path of an entry of a layer. Layers come from strangers: what is not plainly a path inside
/// the image is refused, with the reason.
pub(crate) fn of_entry(bytes: &[u8]) -> Result<String, String> {
    const BYTES_MAX: usize = 4096;
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(format!("`{}` is not UTF-8", String::from_utf8_lossy(bytes)));
    };
    if text.len() > BYTES_MAX {
        return Err(format!("a path has more than {BYTES_MAX} bytes"));
    }
    if text.contains('\0') {
        return Err(format!("`{}` has a zero byte in it", text.escape_default()));
    }
    if text.starts_with('/') {
        return Err(format!("`{text}` is an absolute path"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("`{text}` climbs out with `..`"));
    }
    Ok(absolute("", text))
}
