//! The audit as one self-contained HTML page.

use std::{fs, path::Path};

use anyhow::Result;
use asyndgan_paper::{AttributeRecord, AuditRecord, CopiesRecord, MembershipRecord, ReconstructionRecord, Run};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};

use super::subjects::IMAGES_MAX;
use crate::run::html_page;

/// Builds the page.
pub(super) fn page(record: &AuditRecord, run: &Run, picture: &Path) -> Result<String> {
    let drawn =
        record.copies.as_ref().map(|found| Ok::<_, anyhow::Error>(copies(found, &STANDARD.encode(fs::read(picture)?)))).transpose()?;
    let is_phantom = run.data.is_none();
    let content = html! {
                h1 { "Audit of " (record.data) }
                @if is_phantom { p.warning { "Phantom data: artificial patients. No number on this page says anything about patients." } }
                @else { p.warning { "This page shows images of real patients: keep it only where the data may be kept." } }
                p {
                    "Attacks on the generator, the synthetic images, the masks and the feedback of a run with "
                    (record.patients[0]) " patients at the sites and " (record.patients[1]) " patients that were held out."
                    @if record.tested < record.patients[0] { " " (record.tested) " of those at the sites are tested, and masks are those of these." }
                    @if record.unknown_patients > 0 { " " (record.unknown_patients) " cases of unknown patients are left out." }
                }
                h2 { "In plain words" } (summary(record))
                h2 { "Whose images were used?" }
                p { "Each attack gives every patient a score. AUC is the probability that a patient whose images were used has a "
                    "higher score than one whose images were not: 0.5 is a guess, 1 finds everyone. TPR is the share of used patients "
                    "that is found if at most 1 % of the others are accused wrongly." }
                (tests(&record.membership))
                h2 { "What do masks give away?" }
                p { "The attacker looks for a patient's mask in the masks that left the sites, as they would leave under each policy." }
                (tests(&record.masks))
                p { "An attribute of a patient: the attacker knows a part of the patient's mask, and guesses how much is marked in the "
                    "rest from the mask that left whose known part is most similar. 0 is a guess, 1 is the right order of all patients. "
                    "What is known about patients whose masks did not leave is no leak." }
                (attributes(&record.attributes))
                h2 { "Are training images copied?" } @if let Some(copies) = &drawn { (copies) }
                h2 { "Can images be reconstructed from feedback?" }
                p { "A malicious server chooses the synthetic images that it sends, and knows the masks. The correlation is of what it "
                    "can't know blindly: 0 is nothing, 1 is the whole image. A correlation with other images of the site means that "
                    "the server learns how images of the site look in general. What the control finds can be learnt from masks alone." }
                (reconstructions(&record.reconstruction))
                h2 { "What this audit does not show" }
                p { "An attack that fails proves nothing about better attacks. Only differential privacy bounds all attacks; the guide "
                    "has its limits. With few patients, intervals are wide, and a small leak is not visible." }
                @for reason in &record.left_out { p { "Left out: " (reason) "." } }
                h2 { "How it was computed" }
                p.small { @for (name, fact) in &record.versions { (name) " " (fact) "; " } "seed " (record.seed) }
    };
    Ok(html_page(&format!("Audit of {} (AsynDGAN)", record.data), &content))
}

fn summary(record: &AuditRecord) -> Markup {
    html! {
        ul {
            @for test in &record.membership { li { (sentence(test)) } }
            @for test in &record.masks { li { (sentence(test)) } }
            @for found in &record.attributes { li {
                "With " (found.attack) ", an attacker who guesses " (found.attribute) " "
                @if found.is_better_than_for_others() { strong { "knows more" } " about patients whose masks left than about others" }
                @else { "is not shown to know more about patients whose masks left than about others" }
                (format!(" (correlation {:.2} and {:.2}).", found.correlation, found.of_others))
            } }
            @if let Some(copies) = &record.copies {
                li { (format!("{:.1} % of the synthetic images are more similar to a training image than 99 % of the images of other patients are.", 100.0 * copies.above_held_out)) }
            }
            @for found in &record.reconstruction {
                li {
                    (capitalised(&found.setting)) ": a server that " (found.attack)
                    @if is_control(found) { (format!(" reaches {:.2} without the patients' images.", found.own)) }
                    @else if found.recovers() { strong { " recovers the patients' images." } }
                    @else if found.finds_traces() && control_of(record, found).is_some_and(|control| found.interval[0] <= control.interval[1]) {
                        (format!(" reaches {:.2}, which is not shown to be more than its control.", found.own))
                    }
                    @else if found.finds_traces() { strong { " recovers traces of the patients' images" } (format!(" (correlation {:.2}).", found.own)) }
                    @else { " recovers no more of a patient's image than a blind guess." }
                }
            }
        }
    }
}

/// The control of an attack: the same attack on as many images.
fn control_of<'a>(record: &'a AuditRecord, found: &ReconstructionRecord) -> Option<&'a ReconstructionRecord> {
    record.reconstruction.iter().find(|other| is_control(other) && other.attack == found.attack && other.images == found.images)
}

fn sentence(test: &MembershipRecord) -> Markup {
    html! {
        "With " (test.attack) ", an attacker "
        @if test.is_better_than_guessing() { strong { "can tell" } " whose images were used better than by guessing" }
        @else if test.counts.iter().any(|&count| count < 10) { "is not shown to do better than guessing: these patients are too few to tell" }
        @else { "can't tell whose images were used better than by guessing, as far as these patients show" }
        (format!(" (AUC {:.2}, {:.2} to {:.2}).", test.auc, test.auc_interval[0], test.auc_interval[1]))
    }
}

fn tests(records: &[MembershipRecord]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { th { "the attacker has" } th.number { "used / others" } th.number { "AUC" } th.number { "TPR at 1 % FPR" } } }
            tbody { @for test in records { tr {
                th { (test.attack) }
                td.number { (test.counts[0]) " / " (test.counts[1]) }
                td.number { (with_interval(test.auc, test.auc_interval)) }
                td.number { (with_interval(test.true_positive_rate, test.true_positive_rate_interval)) }
            } } }
        } }
    }
}

fn attributes(records: &[AttributeRecord]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { th { "the attacker has" } th { "guesses" } th.number { "used / others" } th.number { "correlation, used" } th.number { "others" } } }
            tbody { @for found in records { tr.chosen[found.is_better_than_for_others()] {
                th { (found.attack) } td { (found.attribute) }
                td.number { (found.counts[0]) " / " (found.counts[1]) }
                td.number { (with_interval(found.correlation, found.interval)) }
                td.number { (with_interval(found.of_others, found.of_others_interval)) }
            } } }
        } }
    }
}

fn with_interval(value: f64, [low, high]: [f64; 2]) -> Markup {
    html! { (three(value)) br; span.small { (three(low)) " to " (three(high)) } }
}

fn copies(found: &CopiesRecord, picture: &str) -> Markup {
    html! {
        p { "Each image is compared with up to " (IMAGES_MAX) " images of each training patient, shifted and mirrored. The similarity is that of the structure, without "
            "brightness and contrast: 1 is the same image. Held-out images show how similar images of different patients are." }
        div.wide { table {
            thead { tr { th { "images" } th.number { "number" } th.number { "median similarity" } th.number { "95th percentile" } } }
            tbody {
                @for (name, count, values) in [("synthetic", found.images[0], found.synthetic), ("held out", found.images[1], found.held_out)] {
                    tr { th { (name) } td.number { (count) } @for value in values { td.number { (format!("{value:.3}")) } } }
                }
            }
        } }
        @if let Some(ssim) = found.worst_ssim { p { (format!("The highest SSIM among the most similar pairs is {ssim:.3}.")) } }
        figure.wide {
            img src=(format!("data:image/png;base64,{picture}")) alt="most similar pairs";
            figcaption { "The synthetic images that are most similar to a training image, each beside that image." }
        }
    }
}

fn reconstructions(records: &[ReconstructionRecord]) -> Markup {
    html! {
        div.wide { table {
            thead { tr {
                th { "recipe and defence" } th { "the server" } th.number { "images" } th.number { "rounds" }
                th.number { "correlation, own / other" } th.number { "PSNR in dB, attack / blind" } th.number { "SSIM, attack / blind" }
            } }
            tbody { @for found in records { tr.chosen[found.finds_traces() && !is_control(found)] {
                th { (found.setting) } td { (found.attack) }
                td.number { (found.images) } td.number { (found.rounds) }
                td.number { (three(found.own)) " / " (three(found.other)) br; span.small { "difference " (three(found.interval[0])) " to " (three(found.interval[1])) } }
                td.number { (format!("{:.1} / {:.1}", found.psnr[0], found.psnr[1])) }
                td.number { (three(found.ssim[0])) " / " (three(found.ssim[1])) }
            } } }
        } }
    }
}

/// Whether the server of a row has none of the patients' images.
fn is_control(found: &ReconstructionRecord) -> bool {
    found.setting.starts_with("control")
}

/// A number with three digits after the point, and no minus before zero.
fn three(value: f64) -> String {
    let text = format!("{value:.3}");
    if text == "-0.000" { "0.000".into() } else { text }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
