//! Erdős-Rényi-Kernel densities.

use super::LayerSize;

/// The sparsity of each layer: densities `e (outputs + inputs + kernel sides) / weights`, at most 1,
/// with `e` such that the overall sparsity is the wanted one.
pub(super) fn sparsities(layers: &[LayerSize], sparsity: f64) -> Vec<f64> {
    let weights: Vec<f64> = layers.iter().map(|layer| layer.weights() as f64).collect();
    let raw: Vec<f64> = layers
        .iter()
        .zip(&weights)
        .map(|(layer, &weights)| {
            let sides = layer.outputs + layer.inputs + layer.kernel.iter().sum::<usize>();
            if weights > 0.0 { sides as f64 / weights } else { 0.0 }
        })
        .collect();
    let mut is_dense = vec![false; layers.len()];
    loop {
        let rest = |values: &dyn Fn(usize) -> f64| -> f64 {
            (0..layers.len()).filter(|&i| !is_dense[i]).map(values).sum()
        };
        let dense: f64 = (0..layers.len()).filter(|&i| is_dense[i]).map(|i| weights[i]).sum();
        let budget = (1.0 - sparsity) * weights.iter().sum::<f64>() - dense;
        let scale = budget / rest(&|i| raw[i] * weights[i]);
        // One after the other, the layer that most exceeds 1 becomes dense.
        let over = (0..layers.len()).filter(|&i| !is_dense[i] && raw[i] * scale > 1.0);
        match over.max_by(|&a, &b| raw[a].total_cmp(&raw[b])) {
            Some(i) => is_dense[i] = true,
            None => {
                let of = |i: usize| if is_dense[i] { 0.0 } else { 1.0 - raw[i] * scale };
                return (0..layers.len()).map(of).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(outputs: usize, inputs: usize, side: usize) -> LayerSize {
        let kernel = vec![side, side];
        let capacity = outputs * inputs * side * side;
        LayerSize { outputs, inputs, kernel, capacity }
    }

    /// Densities by the formula of the paper, with the narrow layer dense.
    #[test]
    fn narrow_layers_are_denser() {
        let layers = [layer(4, 4, 1), layer(64, 64, 3), layer(32, 32, 3)];
        let found = sparsities(&layers, 0.8);
        assert_eq!(found[0], 0.0);
        let zeros: f64 = found.iter().zip(&layers).map(|(s, l)| s * l.weights() as f64).sum();
        let all: f64 = layers.iter().map(|l| l.weights() as f64).sum();
        assert!((zeros / all - 0.8).abs() < 1e-12);
        let ratio = (1.0 - found[1]) / (1.0 - found[2]);
        let expected = (134.0 / 36864.0) / (70.0 / 9216.0);
        assert!((ratio - expected).abs() < 1e-12, "{ratio} {expected}");
    }
}
