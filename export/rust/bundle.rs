//! A bundle and its inputs, checked before anything is computed. Errors are one line for people.

use std::fs;
use std::path::Path;

use crate::json::Json;
use crate::stale_core::Settings;

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

pub struct Bundle {
    folder: String,
    manifest: Json,
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|problem| format!("{}: cannot be read: {}", path, problem))
}

impl Bundle {
    pub fn open(folder: &str) -> Result<Bundle, String> {
        let path = format!("{}/manifest.json", folder);
        let text = String::from_utf8(read(&path)?).map_err(|_| format!("{}: not UTF-8", path))?;
        let manifest = Json::parse(&text).ok_or(format!("{}: not valid JSON", path))?;
        match manifest.text("format")? {
            "stale-edge-bundle/1" => Ok(Bundle { folder: folder.to_string(), manifest }),
            other => Err(format!("{}: bundle of format {}; this program reads stale-edge-bundle/1", path, other)),
        }
    }

    /// The bytes of the ONNX detector; size and sha256 are those of the manifest.
    pub fn detector(&self, precision: &str) -> Result<Vec<u8>, String> {
        for entry in self.manifest.list("files")? {
            if (entry.text("role")?, entry.text("runtime")?, entry.text("precision")?) == ("detector", "onnxruntime", precision) {
                return self.checked_file(entry);
            }
        }
        Err(format!("{}: the bundle has no ONNX detector in {}", self.folder, precision))
    }

    pub fn class_bank(&self) -> Result<ClassBank, String> {
        for entry in self.manifest.list("files")? {
            if entry.text("role")? == "class_bank" {
                let (content, path) = (self.checked_file(entry)?, entry.text("path")?);
                let names = strings(npz_member(&content, "names.npy", path)?, path)?;
                let embeddings = matrix(npz_member(&content, "embeddings.npy", path)?, path)?;
                if names.len() != embeddings.rows {
                    return Err(format!("{}: names and embeddings are not equally many", path));
                }
                return Ok(ClassBank { names, embeddings });
            }
        }
        Err(format!("{}: the bundle has no class bank", self.folder))
    }

    fn checked_file(&self, entry: &Json) -> Result<Vec<u8>, String> {
        let path = format!("{}/{}", self.folder, entry.text("path")?);
        let content = read(&path)?;
        let mut digest = [0u8; 32];
        unsafe { SHA256(content.as_ptr(), content.len(), digest.as_mut_ptr()) };
        let digits: String = digest.iter().map(|byte| format!("{:02x}", byte)).collect();
        if content.len() as f64 != entry.number("bytes")? || digits != entry.text("sha256")? {
            return Err(format!("{} has changed: its bytes are not those that the manifest names", path));
        }
        Ok(content)
    }

    /// Check features against the feature contract, and resample them where it says so.
    pub fn fitted(&self, features: &Matrix) -> Result<Matrix, String> {
        let contract = self.manifest.get("feature_contract")?;
        let (channels, got) = (contract.number("channels")?, format!("got T = {}, C = {}", features.rows, features.columns));
        if features.columns as f64 != channels {
            let encoder = contract.text("encoder")?;
            return Err(format!("features must have C = {} channels (encoder {}); {}", channels, encoder, got));
        }
        if features.rows == 0 {
            return Err(format!("features need at least one snippet; {}", got));
        }
        if let Some(i) = features.values.iter().position(|value| !value.is_finite()) {
            let (t, c) = (i / features.columns, i % features.columns);
            return Err(format!("features must be finite; snippet {}, channel {} is not", t, c));
        }
        match (contract.text("resampling")?, contract.get("length")?) {
            ("linear", _) => Ok(resampled(features, contract.number("resample_to")? as usize)),
            ("none", Json::Number(length)) if features.rows as f64 != *length => {
                Err(format!("features must have T = {} snippets, the length of this network; {}", length, got))
            }
            ("none", _) => Ok(features.clone()),
            (other, _) => Err(format!("the feature contract's resampling '{}' is not known to this program", other)),
        }
    }

    pub fn decode_settings(&self) -> Result<Settings, String> {
        let decode = self.manifest.get("decode")?;
        let choice = |key: &str, names: &[&str]| {
            let got = decode.text(key)?;
            let known = names.iter().position(|name| *name == got).map(|i| i as i32);
            known.ok_or(format!("decode.{} is '{}', which this program does not know", key, got))
        };
        let thresholds = decode.list("mask_thresholds")?.iter();
        Ok(Settings {
            release_policy: choice("policy", &["paper", "release"])? == 1,
            class_threshold: decode.number("class_threshold")?,
            top_snippets: decode.number("top_snippets")? as i64,
            mask_thresholds: thresholds.filter_map(|x| if let Json::Number(x) = x { Some(*x) } else { None }).collect(),
            regions: choice("regions", &["runs", "hull"])?,
            min_snippets: decode.number("min_snippets")? as i64,
            soft_nms: choice("soft_nms", &["gaussian", "linear", "hard"])?,
            sigma: decode.number("sigma")?,
            tiou_threshold: decode.number("tiou_threshold")?,
            min_score: decode.number("min_score")?,
            max_detections: decode.number("max_detections")? as i64,
        })
    }
}

/// Read an `.npy` file of float32 or float16 (T, C).
pub fn read_features(path: &Path) -> Result<Matrix, String> {
    let where_ = path.display().to_string();
    let content = read(&where_)?;
    matrix(npy(&content, &where_)?, &where_)
}

/// Interpolate linearly between the centres of snippets.
fn resampled(features: &Matrix, length: usize) -> Matrix {
    let (n, columns) = (features.rows, features.columns);
    if n == length {
        return features.clone();
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
    Matrix { rows: length, columns, values }
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
        let begin = 8 + length_size;
        let data = begin + number(content, 8, length_size)?;
        let header = std::str::from_utf8(content.get(begin..data)?).ok()?;
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
        let kind = after("'descr': '")?.split_once('\'')?.0.to_string();
        after("'fortran_order': False")?;
        let sizes = after("'shape': (")?.split_once(')')?.0;
        let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse().ok().filter(|size| *size <= content.len()));
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
        other => return Err(format!("{}: must be float32 or float16, little-endian; got '{}'", path, other)),
    };
    if array.shape.len() != 2 {
        return Err(format!("{}: must have two axes, (T, C); got {:?}", path, array.shape));
    }
    let (rows, columns) = (array.shape[0], array.shape[1]);
    if array.data.len() != rows * columns * size {
        return Err(format!("{}: its size is not that of its shape", path));
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
    let width = array.kind.strip_prefix("<U").and_then(|width| width.parse::<usize>().ok()).filter(|width| *width > 0);
    let width = width.ok_or(format!("{}: names must be strings; got '{}'", path, array.kind))?;
    let characters = |row: &[u8]| {
        let codes = row.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        codes.take_while(|code| *code != 0).map(|code| char::from_u32(code).unwrap_or('\u{fffd}')).collect()
    };
    Ok(array.data.chunks_exact(4 * width).map(characters).collect())
}
