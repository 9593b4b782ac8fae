//! The native part of the Python package asyndgan-metrics. Its interface is private to the package.

use std::collections::BTreeMap;

use asyndgan_metrics::{
    Connectivity, Convention, ConventionName, Directions, Scores, SurfaceDistances, Undefined, connected_components, ndarray::ArrayViewD,
    pearson as linear_correlation, score_instances, score_masks,
};
use numpy::{IntoPyArray, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::{create_exception, exceptions::PyValueError, prelude::*};

create_exception!(asyndgan_metrics, UndefinedMetric, PyValueError, "A metric has no value for these masks; the message is the reason.");

/// The metrics with a value, and for the others the reason why they have none.
type Split = (BTreeMap<&'static str, f64>, BTreeMap<&'static str, String>);

fn split(scores: Scores) -> Split {
    let (mut values, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    for (name, score) in scores {
        match score {
            Ok(value) => drop(values.insert(name, value)),
            Err(reason) => drop(reasons.insert(name, reason.to_string())),
        }
    }
    (values, reasons)
}

fn undefined(reason: Undefined) -> PyErr {
    UndefinedMetric::new_err(reason.to_string())
}

fn convention(name: &str) -> PyResult<Convention> {
    Ok(Convention::new(name.parse::<ConventionName>().map_err(PyValueError::new_err)?, "case"))
}

/// Checks what the metrics would panic on.
fn check(truth: &[usize], prediction: &[usize], spacing_mm: &[f64]) -> PyResult<()> {
    if truth != prediction {
        return Err(PyValueError::new_err(format!("truth and prediction differ in shape: {truth:?} and {prediction:?}")));
    }
    if !(1..=3).contains(&truth.len()) {
        return Err(PyValueError::new_err(format!("masks must have one to three axes, got {}", truth.len())));
    }
    if spacing_mm.len() != truth.len() {
        return Err(PyValueError::new_err(format!("{} spacings for {} axes", spacing_mm.len(), truth.len())));
    }
    if !spacing_mm.iter().all(|spacing| (1e-9..=1e9).contains(spacing)) {
        return Err(PyValueError::new_err(format!("spacings must be from 1e-9 to 1e9 mm, got {spacing_mm:?}")));
    }
    Ok(())
}

/// The distances between the surfaces of two masks, measured once; every surface metric is computed from them.
#[pyclass(frozen, module = "asyndgan_metrics._native")]
struct Distances(SurfaceDistances);

#[pymethods]
impl Distances {
    #[new]
    fn new(
        py: Python<'_>,
        truth: PyReadonlyArrayDyn<'_, bool>,
        prediction: PyReadonlyArrayDyn<'_, bool>,
        spacing_mm: Vec<f64>,
    ) -> PyResult<Self> {
        check(truth.shape(), prediction.shape(), &spacing_mm)?;
        let (truth, prediction): (ArrayViewD<'_, bool>, ArrayViewD<'_, bool>) = (truth.as_array(), prediction.as_array());
        py.detach(|| SurfaceDistances::new(truth, prediction, &spacing_mm)).map(Self).map_err(undefined)
    }

    fn percentile(&self, py: Python<'_>, percent: f64, pooled: bool) -> PyResult<f64> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(PyValueError::new_err(format!("a percentage must be from 0 to 100, got {percent}")));
        }
        let directions = if pooled { Directions::Pooled } else { Directions::Separate };
        Ok(py.detach(|| self.0.percentile(percent, directions)))
    }

    fn assd(&self) -> f64 {
        self.0.average()
    }

    fn surface_dice(&self, tolerance_mm: f64) -> f64 {
        self.0.surface_dice(tolerance_mm)
    }

    fn truth_to_prediction_mm(&self) -> Vec<f64> {
        self.0.truth_to_prediction_mm().to_vec()
    }

    fn prediction_to_truth_mm(&self) -> Vec<f64> {
        self.0.prediction_to_truth_mm().to_vec()
    }
}

#[pyfunction]
fn masks(
    py: Python<'_>,
    truth: PyReadonlyArrayDyn<'_, bool>,
    prediction: PyReadonlyArrayDyn<'_, bool>,
    spacing_mm: Vec<f64>,
    tolerance_mm: f64,
    name: &str,
) -> PyResult<Split> {
    check(truth.shape(), prediction.shape(), &spacing_mm)?;
    let (convention, truth, prediction) = (convention(name)?, truth.as_array(), prediction.as_array());
    Ok(split(py.detach(|| score_masks(truth, prediction, &spacing_mm, tolerance_mm, &convention))))
}

#[pyfunction]
fn instances(py: Python<'_>, truth: PyReadonlyArrayDyn<'_, u32>, prediction: PyReadonlyArrayDyn<'_, u32>, name: &str) -> PyResult<Split> {
    if truth.shape() != prediction.shape() {
        return Err(PyValueError::new_err(format!(
            "truth and prediction differ in shape: {:?} and {:?}",
            truth.shape(),
            prediction.shape()
        )));
    }
    let (convention, truth, prediction) = (convention(name)?, truth.as_array(), prediction.as_array());
    Ok(split(py.detach(|| score_instances(truth, prediction, &convention))))
}

#[pyfunction]
fn components<'py>(py: Python<'py>, mask: PyReadonlyArrayDyn<'py, bool>, connectivity: &str) -> PyResult<Bound<'py, PyArrayDyn<u32>>> {
    let connectivity = match connectivity {
        "faces" => Connectivity::Faces,
        "edges" => Connectivity::Edges,
        "corners" => Connectivity::Corners,
        other => return Err(PyValueError::new_err(format!("{other:?} is not a connectivity: use one of faces, edges, corners"))),
    };
    if !(1..=3).contains(&mask.ndim()) {
        return Err(PyValueError::new_err(format!("masks must have one to three axes, got {}", mask.ndim())));
    }
    let mask = mask.as_array();
    Ok(py.detach(|| connected_components(mask, connectivity).0).into_pyarray(py))
}

/// The correlation and its p-value; none if all values of a side are equal.
#[pyfunction]
fn pearson(first: Vec<f64>, second: Vec<f64>) -> PyResult<Option<(f64, f64)>> {
    if first.len() != second.len() {
        return Err(PyValueError::new_err(format!("{} and {} values", first.len(), second.len())));
    }
    match linear_correlation(&first, &second) {
        Ok(found) => Ok(Some((found.correlation, found.p))),
        Err(Undefined::Identical) => Ok(None),
        Err(reason) => Err(undefined(reason)),
    }
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("UndefinedMetric", module.py().get_type::<UndefinedMetric>())?;
    module.add_class::<Distances>()?;
    module.add_function(wrap_pyfunction!(masks, module)?)?;
    module.add_function(wrap_pyfunction!(instances, module)?)?;
    module.add_function(wrap_pyfunction!(components, module)?)?;
    module.add_function(wrap_pyfunction!(pearson, module)?)
}
