//! Logistic regression with a ridge, fitted by iteratively reweighted least squares
//! (McCullagh and Nelder, Generalized Linear Models, 1989, 4.4).

use super::evidence::FEATURES;

type Vector = [f64; FEATURES];
type Matrix = [Vector; FEATURES];

/// Pulls the weights towards zero; keeps the fit defined when all outcomes are equal.
const RIDGE: f64 = 0.02;
/// Newton steps of a fit; it converges in fewer from the last weights.
const STEPS: usize = 8;
/// A step this small ends the fit.
const CONVERGED: f64 = 1e-3;
/// Bounds the linear predictor, so that no probability becomes 0 or 1.
const LINEAR_MAX: f64 = 30.0;

/// The fitted model: weights and their covariance.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logistic {
    weights: Vector,
    covariance: Matrix,
}

impl Logistic {
    pub(super) fn new() -> Self {
        let mut covariance = [[0.0; FEATURES]; FEATURES];
        for (i, row) in covariance.iter_mut().enumerate() {
            row[i] = 1.0 / RIDGE;
        }
        Self { weights: [0.0; FEATURES], covariance }
    }

    /// Log odds of being right.
    pub(super) fn linear(&self, x: &Vector) -> f64 {
        dot(&self.weights, x).clamp(-LINEAR_MAX, LINEAR_MAX)
    }

    /// Standard error of [`Self::linear`].
    pub(super) fn standard_error(&self, x: &Vector) -> f64 {
        let spread: f64 = self.covariance.iter().zip(x).map(|(row, value)| value * dot(row, x)).sum();
        spread.max(0.0).sqrt()
    }

    /// Fits anew to all observations, starting from the present weights.
    pub(super) fn fit<'a>(&mut self, observations: impl Iterator<Item = (&'a Vector, bool)> + Clone) {
        for _ in 0..STEPS {
            let mut hessian = [[0.0; FEATURES]; FEATURES];
            let mut gradient = self.weights.map(|weight| -RIDGE * weight);
            for (i, row) in hessian.iter_mut().enumerate() {
                row[i] = RIDGE;
            }
            for (x, right) in observations.clone() {
                let p = sigmoid(self.linear(x));
                let weight = p * (1.0 - p) + 1e-6;
                for i in 0..FEATURES {
                    gradient[i] += x[i] * (f64::from(u8::from(right)) - p);
                    for j in 0..FEATURES {
                        hessian[i][j] += weight * x[i] * x[j];
                    }
                }
            }
            let Some(inverse) = inverse(hessian) else {
                return;
            };
            self.covariance = inverse;
            let step = inverse.map(|row| dot(&row, &gradient));
            self.weights.iter_mut().zip(step).for_each(|(weight, change)| *weight += change);
            if step.iter().all(|change| change.abs() < CONVERGED) {
                return;
            }
        }
    }
}

/// Probability from log odds.
pub(super) fn sigmoid(linear: f64) -> f64 {
    1.0 / (1.0 + (-linear).exp())
}

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Gauss-Jordan; the matrix is symmetric and positive definite, so no pivoting is needed. `None` if
/// rounding has made it singular.
fn inverse(mut matrix: Matrix) -> Option<Matrix> {
    let mut result = [[0.0; FEATURES]; FEATURES];
    for (i, row) in result.iter_mut().enumerate() {
        row[i] = 1.0;
    }
    for i in 0..FEATURES {
        let pivot = matrix[i][i];
        if pivot.abs() < 1e-12 || !pivot.is_finite() {
            return None;
        }
        for j in 0..FEATURES {
            matrix[i][j] /= pivot;
            result[i][j] /= pivot;
        }
        let (pivot_row, result_row) = (matrix[i], result[i]);
        for k in (0..FEATURES).filter(|k| *k != i) {
            let factor = matrix[k][i];
            for j in 0..FEATURES {
                matrix[k][j] -= factor * pivot_row[j];
                result[k][j] -= factor * result_row[j];
            }
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_is_one() {
        let mut matrix = [[0.5; FEATURES]; FEATURES];
        for (i, row) in matrix.iter_mut().enumerate() {
            row[i] = 2.0 + i as f64;
        }
        let inverse = inverse(matrix).expect("regular");
        for (i, row) in matrix.iter().enumerate() {
            for j in 0..FEATURES {
                let cell: f64 = row.iter().zip(&inverse).map(|(value, other)| value * other[j]).sum();
                assert!((cell - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
        assert_eq!(super::inverse([[0.0; FEATURES]; FEATURES]), None);
    }

    #[test]
    fn it_learns_where_right_begins() {
        let observation = |i: u32| {
            let x = f64::from(i % 100) / 50.0 - 1.0;
            ([1.0, x, 0.0, 0.0, 0.0], x > 0.2)
        };
        let data: Vec<(Vector, bool)> = (0..500).map(observation).collect();
        let mut model = Logistic::new();
        model.fit(data.iter().map(|(x, right)| (x, *right)));
        let p = |x: f64| sigmoid(model.linear(&[1.0, x, 0.0, 0.0, 0.0]));
        assert!(p(-0.2) < 0.05 && p(0.6) > 0.95, "{} {}", p(-0.2), p(0.6));
        assert!((p(0.21) - 0.5).abs() < 0.3, "{}", p(0.21));
    }
}
