//! A bundle and its inputs, checked before anything is computed. Errors are one line for people.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::decode::Decoder;
use crate::json::{shown, Json};

// Limits of this program; BUNDLE.md lists them.
const MOST_FILE_BYTES: usize = 1 << 31; // a network is a protobuf, which is never larger
const MOST_MANIFEST_BYTES: usize = 1 << 26; // 64 MiB
const MOST_NUMBERS: usize = 1 << 28; // float32 values of an array: 1 GiB
const MOST_SNIPPETS: usize = 1 << 20; // T
const MOST_COUNT: usize = 1 << 53; // of settings that nothing is sized by: what a double holds exactly

const FORMATS: [&str; 2] = ["stale-edge-bundle/1", "stale-edge-bundle/2"];

#[link(name = "crypto")]
extern "C" {
    fn SHA256(data: *const u8, size: usize, digest: *mut u8) -> *mut u8; // OpenSSL's
}

/// Row-major (rows, columns).
#[derive(Clone)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

pub struct ClassBank {
    pub names: Vec<String>,
    pub embeddings: Matrix,
}

/// By frames, (stride, num_frames, fps): (snippet * stride + num_frames / 2) / fps, where the contract says how frames became
/// the features that the network reads. Else snippets share the video evenly. Kept in [0, duration_s].
pub struct TimeGrid {
    by_frames: Option<(f64, f64, f64)>,
    duration_s: f64,
}

impl TimeGrid {
    pub fn seconds(&self, snippet: f64, n_snippets: usize) -> f64 {
        let seconds = match self.by_frames {
            Some((stride, num_frames, fps)) => (snippet * stride + 0.5 * num_frames) / fps,
            None => snippet / n_snippets as f64 * self.duration_s,
        };
        seconds.min(self.duration_s).max(0.0)
    }
}

pub struct Bundle {
    folder: String,
    manifest: Json,
}

/// Read a regular file of at most `most` bytes, of exactly `size` where that is given.
fn read(path: &Path, size: Option<usize>, most: usize) -> Result<Vec<u8>, String> {
    let refused = |why: String| Err(format!("{}: {}", path.display(), why));
    let status = fs::metadata(path).map_err(|problem| format!("{}: cannot be read: {}", path.display(), problem))?;
    if !status.is_file() {
        return refused("must be a regular file".to_string()); // a pipe would never end
    }
    if let Some(size) = size.filter(|size| *size as u64 != status.len()) {
        return refused(format!("has {} bytes; the manifest says {}", status.len(), size));
    }
    if status.len() > most as u64 {
        return refused(format!("has {} bytes; at most {} are read", status.len(), most));
    }
    let mut content = Vec::with_capacity(status.len() as usize);
    match fs::File::open(path).and_then(|file| file.take(status.len()).read_to_end(&mut content)) {
        Ok(_) => Ok(content),
        Err(problem) => refused(format!("cannot be read: {}", problem)),
    }
}

/// Whether a path of the manifest stays inside by its name alone, on every system.
fn is_inside(name: &str) -> bool {
    let strange = name.contains(|c| c == ':' || c == '\\' || c == '\0');
    !strange && name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Read a file of a folder; neither its name nor a link may lead out of the folder.
fn read_inside(folder: &str, name: &str, size: Option<usize>, most: usize) -> Result<Vec<u8>, String> {
    if !is_inside(name) {
        let why = "names a path outside the bundle";
        return Err(format!("{}: the manifest {}: {}; only relative paths inside are allowed", folder, why, shown(name)));
    }
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|problem| format!("{}: {} cannot be read: {}", folder, shown(name), problem))
    };
    let (root, path) = (real(Path::new(folder))?, real(&Path::new(folder).join(name))?);
    if !path.starts_with(&root) {
        return Err(format!("{}: {} is a link that leads outside the bundle, to {}", folder, shown(name), path.display()));
    }
    read(&path, size, most)
}

impl Bundle {
    pub fn open(folder: &str) -> Result<Bundle, String> {
        let name = "manifest.json";
        let content = read_inside(folder, name, None, MOST_MANIFEST_BYTES)?;
        let text = String::from_utf8(content).map_err(|_| format!("{}/{}: not UTF-8", folder, name))?;
        let manifest = Json::parse(&text).filter(|value| matches!(value, Json::Object(_)));
        let manifest = manifest.ok_or(format!("{}/{}: not a JSON object with finite numbers and distinct keys", folder, name))?;
        let format = manifest.text("format")?;
        if !FORMATS.contains(&format) {
            let known = FORMATS.join(" and ");
            return Err(format!("{}: bundle of format {}; this program reads {}", folder, shown(format), known));
        }
        Ok(Bundle { folder: folder.to_string(), manifest })
    }

    /// The one entry of the manifest's files that is this; `what` names it in messages.
    fn entry(&self, what: &str, wanted: &[(&str, &str)]) -> Result<&Json, String> {
        let mut found = None;
        for entry in self.manifest.list("files")? {
            let mut same = true;
            for (key, value) in wanted {
                same = entry.is(key, value)? && same;
            }
            if same && found.replace(entry).is_some() {
                return Err(format!("{}: the manifest lists two of {}", self.folder, what));
            }
        }
        found.ok_or(format!("{}: the bundle has no {}", self.folder, what))
    }

    /// The manifest's entry of the ONNX detector in a precision.
    pub fn detector(&self, precision: &str) -> Result<&Json, String> {
        let what = format!("ONNX detector in {}", shown(precision));
        self.entry(&what, &[("role", "detector"), ("runtime", "onnxruntime"), ("precision", precision)])
    }

    /// The decoder that the manifest names; the detector must list the outputs that it reads.
    pub fn decoder(&self, detector: &Json) -> Result<Decoder, String> {
        Decoder::of(self.manifest.get("decode")?, detector)
    }

    pub fn class_bank(&self) -> Result<ClassBank, String> {
        let entry = self.entry("class bank", &[("role", "class_bank")])?;
        let (content, path) = (self.checked_file(entry)?, entry.text("path")?);
        let names = strings(npz_member(&content, "names.npy", path)?, path)?;
        let embeddings = matrix(npz_member(&content, "embeddings.npy", path)?, path)?;
        if embeddings.values.is_empty() || names.len() != embeddings.rows {
            let got = format!("{} names and {} embeddings", names.len(), embeddings.rows);
            return Err(format!("{}: must hold at least one class, and one embedding a name; got {}", path, got));
        }
        if !embeddings.values.iter().all(|value| value.is_finite()) {
            return Err(format!("{}: an embedding is not finite", path));
        }
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        if sorted[0].is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("{}: a name is empty, or stands there twice", path));
        }
        Ok(ClassBank { names, embeddings })
    }

    /// The bytes of an entry's file; size and sha256 are those of the manifest.
    pub fn checked_file(&self, entry: &Json) -> Result<Vec<u8>, String> {
        let name = entry.text("path")?;
        if name.eq_ignore_ascii_case("manifest.json") {
            return Err(format!("{}: no file of a bundle can be called {}", self.folder, name));
        }
        let size = entry.integer("bytes", 0, MOST_FILE_BYTES)?;
        let content = read_inside(&self.folder, name, Some(size), MOST_FILE_BYTES)?;
        let mut digest = [0u8; 32];
        unsafe { SHA256(content.as_ptr(), content.len(), digest.as_mut_ptr()) };
        let digits: String = digest.iter().map(|byte| format!("{:02x}", byte)).collect();
        if content.len() != size || digits != entry.text("sha256")? {
            let said = "has changed: its bytes are not those that the manifest names";
            return Err(format!("{}: {} {}", self.folder, shown(name), said));
        }
        Ok(content)
    }

    /// Check features against the feature contract, and resample them where it says so.
    pub fn fitted(&self, features: &Matrix) -> Result<Matrix, String> {
        let contract = self.manifest.get("feature_contract")?;
        let channels = contract.integer("channels", 1, MOST_NUMBERS)?;
        let length = match (contract.text("resampling")?, contract.get("length")?) {
            ("linear", _) => Some(contract.integer("resample_to", 1, MOST_SNIPPETS)?),
            ("none", Json::Null) => None,
            ("none", _) => Some(contract.integer("length", 1, MOST_SNIPPETS)?),
            (other, _) => return Err(format!("resampling {} is not known to this program; it knows linear and none", shown(other))),
        };
        let got = format!("got T = {}, C = {}", features.rows, features.columns);
        if features.columns != channels {
            let encoder = shown(contract.text("encoder")?);
            return Err(format!("features must have C = {} channels (encoder {}); {}", channels, encoder, got));
        }
        if features.rows == 0 || features.rows > MOST_SNIPPETS {
            return Err(format!("features need 1 to {} snippets; {}", MOST_SNIPPETS, got));
        }
        if let Some(i) = features.values.iter().position(|value| !value.is_finite()) {
            let (t, c) = (i / features.columns, i % features.columns);
            return Err(format!("features must be finite; snippet {}, channel {} is not", t, c));
        }
        match length {
            Some(length) if contract.is("resampling", "linear")? => resampled(features, length),
            Some(length) if features.rows != length => {
                Err(format!("features must have T = {} snippets, the length of this network; {}", length, got))
            }
            _ => Ok(features.clone()),
        }
    }

    /// Where snippets of a video lie in time. Format 1 has no `num_frames`.
    pub fn time_grid(&self, duration_s: f64) -> Result<TimeGrid, String> {
        let contract = self.manifest.get("feature_contract")?;
        let by_frames = match (contract.get("num_frames"), contract.get("fps")?, contract.get("stride")?) {
            (Ok(Json::Number(frames)), Json::Number(fps), Json::Number(stride)) if contract.is("resampling", "none")? => {
                contract.integer("num_frames", 1, MOST_COUNT)?;
                contract.integer("stride", 1, MOST_COUNT)?;
                if *fps <= 0.0 {
                    return Err("manifest.json: fps must be a number > 0".to_string());
                }
                Some((*stride, *frames, *fps))
            }
            _ => None,
        };
        Ok(TimeGrid { by_frames, duration_s })
    }
}

/// Read an `.npy` file of float32 or float16 (T, C).
pub fn read_features(path: &Path) -> Result<Matrix, String> {
    let where_ = path.display().to_string();
    let content = read(path, None, MOST_FILE_BYTES)?;
    matrix(npy(&content, &where_)?, &where_)
}

/// Interpolate linearly between the centres of snippets.
fn resampled(features: &Matrix, length: usize) -> Result<Matrix, String> {
    let (n, columns) = (features.rows, features.columns);
    if n == length {
        return Ok(features.clone());
    }
    if length > MOST_NUMBERS / columns {
        return Err(format!("resampled features would be more than {} numbers", MOST_NUMBERS));
    }
    let mut values = Vec::with_capacity(length * columns);
    for i in 0..length {
        let position = ((i as f64 + 0.5) * (n as f64 / length as f64) - 0.5).max(0.0);
        let left = (position as usize).min(n - 1);
        let right = (left + 1).min(n - 1);
        let weight = (position - left as f64) as f32;
        for c in 0..columns {
            let (a, b) = (features.values[left * columns + c], features.values[right * columns + c]);
            values.push(a * (1.0 - weight) + b * weight);
        }
    }
    Ok(Matrix { rows: length, columns, values })
}

// --- NumPy's files

/// An array as it lies in a file: NumPy's name of its type such as "<f4", its shape, its bytes.
struct Npy<'a> {
    kind: String,
    shape: Vec<usize>,
    data: &'a [u8],
}

fn number(bytes: &[u8], offset: usize, size: usize) -> Option<usize> {
    let digits = bytes.get(offset..offset.checked_add(size)?)?;
    Some(digits.iter().rev().fold(0, |value, digit| value << 8 | *digit as usize)) // little-endian
}

fn npy<'a>(content: &'a [u8], path: &str) -> Result<Npy<'a>, String> {
    let parse = || {
        let length_size = if *content.get(6)? == 1 { 2 } else { 4 };
        let begin: usize = 8 + length_size;
        let data = begin.checked_add(number(content, 8, length_size)?)?;
        let header = std::str::from_utf8(content.get(begin..data)?).ok()?;
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
        let kind = after("'descr': '")?.split_once('\'')?.0.to_string();
        after("'fortran_order': False")?;
        let sizes = after("'shape': (")?.split_once(')')?.0;
        let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse::<u32>().ok().map(|size| size as usize));
        Some(Npy { kind, shape: shape.collect::<Option<_>>()?, data: &content[data..] })
    };
    let parsed = if content.starts_with(b"\x93NUMPY") { parse() } else { None };
    parsed.ok_or(format!("{}: not a plain .npy array in C order", path))
}

/// Find one array of an `.npz` file that numpy.savez wrote, a .zip without compression.
fn npz_member<'a>(content: &'a [u8], name: &str, path: &str) -> Result<Npy<'a>, String> {
    let find = || {
        let end = content.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
        let mut entry = number(content, end + 16, 4)?;
        for _ in 0..number(content, end + 10, 2)? {
            let name_end = entry + 46 + number(content, entry + 28, 2)?;
            if content.get(entry + 46..name_end)? == name.as_bytes() && number(content, entry + 10, 2)? == 0 {
                let local = number(content, entry + 42, 4)?;
                let data = local + 30 + number(content, local + 26, 2)? + number(content, local + 28, 2)?;
                return content.get(data..data + number(content, entry + 24, 4)?);
            }
            entry = name_end + number(content, entry + 30, 2)? + number(content, entry + 32, 2)?;
        }
        None
    };
    npy(find().ok_or(format!("{}: holds no uncompressed {}", path, name))?, path)
}

fn matrix(array: Npy, path: &str) -> Result<Matrix, String> {
    let size = match array.kind.as_str() {
        "<f4" => 4,
        "<f2" => 2,
        other => return Err(format!("{}: must be float32 or float16, little-endian; got {}", path, shown(other))),
    };
    if array.shape.len() != 2 {
        return Err(format!("{}: must have two axes, (T, C); got {:?}", path, array.shape));
    }
    let (rows, columns) = (array.shape[0], array.shape[1]);
    if Some(array.data.len()) != rows.checked_mul(columns).and_then(|count| count.checked_mul(size)) {
        return Err(format!("{}: its size is not that of its shape", path));
    }
    if array.data.len() / size > MOST_NUMBERS {
        return Err(format!("{}: holds more than {} numbers", path, MOST_NUMBERS));
    }
    let values = array.data.chunks_exact(size).map(|b| match size {
        4 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        _ => half(u16::from_le_bytes([b[0], b[1]])),
    });
    Ok(Matrix { rows, columns, values: values.collect() })
}

fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 != 0 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10 & 0x1F) as i32, (bits & 0x3FF) as f32);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        0x1F if fraction == 0.0 => sign * f32::INFINITY,
        0x1F => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

fn strings(array: Npy, path: &str) -> Result<Vec<String>, String> {
    let width = array.kind.strip_prefix("<U").and_then(|width| width.parse::<u32>().ok()).filter(|width| *width > 0);
    let width = width.ok_or(format!("{}: names must be strings; got {}", path, shown(&array.kind)))? as usize;
    if array.shape.len() != 1 || Some(array.data.len()) != array.shape[0].checked_mul(4 * width) {
        return Err(format!("{}: names must be a list, as long as its shape says; got {:?}", path, array.shape));
    }
    let characters = |row: &[u8]| {
        let codes = row.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let text = codes.take_while(|code| *code != 0).map(|code| char::from_u32(code).filter(|c| !c.is_control()));
        text.collect::<Option<String>>()
    };
    let names = array.data.chunks_exact(4 * width).map(characters).collect::<Option<Vec<String>>>();
    names.ok_or(format!("{}: a name holds a control character, or a number that is no character", path))
}
