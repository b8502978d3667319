//! Arithmetic of native histograms: sums and differences of unlike layouts, scaling, quantiles, fractions, spread,
//! trimming, and the text form. The noun and its buckets are `model`'s.

mod quantile;
mod scale;
mod spread;
mod sum;
mod text;
mod trim;

pub use quantile::{NativeQuantile, native_fraction, native_quantile};
pub use scale::{divided, multiplied};
pub use spread::{mean_of_observations, variance_of_observations};
pub use sum::{Added, HistogramMean, HistogramSum, MixedSchemas, difference, sum_of_two};
pub use text::text_of;
pub use trim::{Side, trimmed};
