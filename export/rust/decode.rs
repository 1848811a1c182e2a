//! From the outputs of a detector to detections, as `decode` of the manifest says.

use crate::json::{shown, Json};
use crate::onnxruntime::Tensor;
use crate::stale_core::{self, Detection, PaperSettings, PointsSettings, RunsSettings, SoftNmsParameters};

// Limits of this program; BUNDLE.md lists them.
const MOST_DETECTIONS: usize = 1 << 20;
const MOST_COUNT: usize = 1 << 53; // of settings that nothing is sized by: what a double holds exactly
const MOST_THRESHOLDS: usize = 1000;
const MOST_LEVELS: usize = 32;

/// A size of an output: T and K as the detector's inputs say, P as its first output says.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    B,
    T,
    K,
    KAndBackground,
    P,
    StartAndEnd,
}
use Axis::*;

/// An output of the detector, by name and shape.
#[derive(Clone, Copy)]
struct Read(&'static str, &'static [Axis]);

const CLASS_LOGITS: Read = Read("class_logits", &[B, KAndBackground, T]);
const MASKS: Read = Read("masks", &[B, T, T]);
const OF_POINTS: [Read; 3] = [Read("class_logits", &[B, P, K]), Read("offsets", &[B, P, StartAndEnd]), Read("valid", &[B, P])];

/// A way to decode, named by `decode.policy` of a manifest.
struct Policy {
    name: &'static str,
    reads: &'static [Read],
    /// Outputs that follow them where the detector has them.
    may_read: &'static [Read],
    settings: fn(&Json) -> Result<Settings, String>,
}

const POLICIES: [Policy; 4] = [
    Policy { name: "paper", reads: &[CLASS_LOGITS, MASKS], may_read: &[], settings: paper },
    Policy { name: "release", reads: &[CLASS_LOGITS, MASKS], may_read: &[], settings: |_| Ok(Settings::Release) },
    Policy { name: "points", reads: &OF_POINTS, may_read: &[], settings: points },
    Policy { name: "runs", reads: &[CLASS_LOGITS], may_read: &[Read("attention", &[B, T])], settings: runs },
];

enum Settings {
    Paper(PaperSettings),
    Release,
    Points(PointsSettings, usize),
    Runs(RunsSettings),
}

/// The policy of a bundle with its settings, and the outputs that it reads of a detector.
pub struct Decoder {
    reads: Vec<Read>,
    settings: Settings,
}

impl Decoder {
    /// `decode` and a detector's entry of the manifest. The detector must list the outputs that the policy reads.
    pub fn of(decode: &Json, detector: &Json) -> Result<Decoder, String> {
        let name = decode.text("policy")?;
        let known: Vec<&str> = POLICIES.iter().map(|policy| policy.name).collect();
        let policy = POLICIES.iter().find(|policy| policy.name == name);
        let policy = policy.ok_or(format!("decode.policy is {}; this program decodes {}", shown(name), known.join(", ")))?;
        let mut reads = vec![];
        for (read, needed) in policy.reads.iter().map(|read| (read, true)).chain(policy.may_read.iter().map(|read| (read, false))) {
            let mut listed = false;
            for spec in detector.list("outputs")? {
                listed = spec.is("name", read.0)? || listed;
            }
            if listed {
                reads.push(*read);
            } else if needed {
                return Err(format!("policy {} reads {}, which is no output of this bundle's detector", name, read.0));
            }
        }
        Ok(Decoder { reads, settings: (policy.settings)(decode)? })
    }

    /// The outputs that are read, in the order that `decode` takes them.
    pub fn names(&self) -> Vec<&'static str> {
        self.reads.iter().map(|read| read.0).collect()
    }

    /// Turn the outputs for one video of T snippets and K classes into detections, best first, in snippets; and the number of
    /// snippets that the video has.
    pub fn decode(&self, outputs: &[Tensor], n_classes: usize, n_snippets: usize) -> Result<(Vec<Detection>, usize), String> {
        let mut n_points = 0;
        for (Read(name, axes), output) in self.reads.iter().zip(outputs) {
            if n_points == 0 {
                n_points = axes.iter().position(|axis| *axis == P).and_then(|at| output.shape.get(at)).copied().unwrap_or(0);
            }
            let size = |axis: &Axis| match axis {
                B => 1,
                T => n_snippets,
                K => n_classes,
                KAndBackground => n_classes + 1,
                P => n_points,
                StartAndEnd => 2,
            };
            let wanted: Vec<usize> = axes.iter().map(size).collect();
            if output.shape != wanted || wanted.contains(&0) {
                return Err(format!("the detector's output {} must be {:?}; got {:?}", name, wanted, output.shape));
            }
        }
        let values = |i: usize| &outputs[i].values[..];
        match &self.settings {
            Settings::Paper(settings) => {
                Ok((stale_core::decode_paper(values(0), values(1), n_classes, n_snippets, settings)?, n_snippets))
            }
            Settings::Release => Ok((stale_core::decode_release(values(0), values(1), n_classes, n_snippets)?, n_snippets)),
            Settings::Runs(settings) => {
                let attention = outputs.get(1).map(|output| &output.values[..]);
                Ok((stale_core::decode_runs(values(0), attention, n_classes, n_snippets, settings)?, n_snippets))
            }
            Settings::Points(settings, n_levels) => {
                let lengths = split_levels(n_points, *n_levels)?;
                let valid: Vec<u8> = values(2).iter().map(|value| (*value > 0.5) as u8).collect();
                let n_valid: usize = valid[..lengths[0] as usize].iter().map(|one| *one as usize).sum();
                let found = stale_core::decode_points(values(0), values(1), &valid, &lengths, settings)?;
                Ok((found, n_valid.max(1)))
            }
        }
    }
}

/// The points of each level, where a video of T snippets has ceil(T / 2^l) on level l and so many on all together.
fn split_levels(n_points: usize, n_levels: usize) -> Result<Vec<i64>, String> {
    let levels = |n_snippets: usize| (0..n_levels).map(move |level| (n_snippets + (1 << level) - 1) >> level);
    let (mut low, mut high) = (1, n_points);
    while low < high {
        // more snippets never have fewer points
        let middle = low + (high - low) / 2;
        if levels(middle).sum::<usize>() >= n_points {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if levels(low).sum::<usize>() != n_points {
        return Err(format!("no video has {} points on {} levels", n_points, n_levels));
    }
    Ok(levels(low).map(|length| length as i64).collect())
}

fn paper(decode: &Json) -> Result<Settings, String> {
    Ok(Settings::Paper(PaperSettings {
        class_threshold: decode.number("class_threshold")?,
        top_snippets: decode.integer("top_snippets", 1, MOST_COUNT)? as i64,
        mask_thresholds: thresholds(decode, "mask_thresholds")?,
        regions: choice(decode, "regions", &["runs", "hull"])?,
        min_snippets: decode.integer("min_snippets", 1, MOST_COUNT)? as i64,
        soft_nms: soft_nms(decode)?,
    }))
}

fn points(decode: &Json) -> Result<Settings, String> {
    let settings = PointsSettings {
        pre_nms_threshold: decode.number("pre_nms_threshold")?,
        pre_nms_top_k: decode.integer("pre_nms_top_k", 1, MOST_DETECTIONS)? as i64,
        duration_threshold: decode.number("duration_threshold")?,
        multiclass: decode.flag("multiclass")? as i32,
        voting_threshold: decode.number("voting_threshold")?,
        soft_nms: soft_nms(decode)?,
    };
    Ok(Settings::Points(settings, decode.integer("n_levels", 1, MOST_LEVELS)?))
}

fn runs(decode: &Json) -> Result<Settings, String> {
    Ok(Settings::Runs(RunsSettings {
        class_threshold: decode.number("class_threshold")?,
        top_share: decode.number("top_share")?,
        thresholds: thresholds(decode, "thresholds")?,
        scaled: choice(decode, "threshold_scale", &["none", "video"])?,
        alone: match decode.get("class_scores") {
            Ok(_) => choice(decode, "class_scores", &["softmax", "sigmoid"])?,
            Err(_) => 0, // older bundles do not say: softmax
        },
        smoothing: decode.number("smoothing")?,
        run_score: choice(decode, "run_score", &["maximum", "contrast", "mean-contrast"])?,
        surroundings: decode.number("surroundings")?,
        video_weight: decode.number("video_weight")?,
        length_power: decode.number("length_power")?,
        min_snippets: decode.integer("min_snippets", 1, MOST_COUNT)? as i64,
        soft_nms: soft_nms(decode)?,
    }))
}

fn soft_nms(decode: &Json) -> Result<SoftNmsParameters, String> {
    Ok(SoftNmsParameters {
        method: choice(decode, "soft_nms", &["gaussian", "linear", "hard", "none"])?,
        sigma: decode.number("sigma")?,
        tiou_threshold: decode.number("tiou_threshold")?,
        min_score: decode.number("min_score")?,
        top_k: decode.integer("max_detections", 1, MOST_DETECTIONS)? as i64,
    })
}

/// The place of a setting in a list that has the order of `stale_core.h`.
fn choice(decode: &Json, key: &str, names: &[&str]) -> Result<i32, String> {
    let got = decode.text(key)?;
    let known = names.iter().position(|name| *name == got).map(|i| i as i32);
    known.ok_or(format!("decode.{} is {}, which this program does not know", key, shown(got)))
}

fn thresholds(decode: &Json, key: &str) -> Result<Vec<f64>, String> {
    let list = decode.list(key)?;
    if list.len() > MOST_THRESHOLDS {
        return Err(format!("decode.{} must be at most {} numbers", key, MOST_THRESHOLDS));
    }
    let number = |value: &Json| match value {
        Json::Number(threshold) => Ok(*threshold),
        _ => Err(format!("decode.{} must be numbers", key)),
    };
    list.iter().map(number).collect()
}
