//! Steps: the times at which a query is evaluated, all at once.

/// Steps of a query, in the language's own unit (PromQL and LogQL: ms; TraceQL: ns). An instant query has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    start: i64,
    step: i64,
    len: usize,
}

impl Grid {
    /// One point.
    pub fn instant(t: i64) -> Grid {
        Grid {
            start: t,
            step: 1,
            len: 1,
        }
    }
    /// `start`, `start + step`, ... up to `end`; `step` must be positive and `end` not before `start`.
    pub fn range(start: i64, end: i64, step: i64) -> Grid {
        assert!(step > 0 && end >= start, "a grid runs forward");
        Grid {
            start,
            step,
            len: ((end - start) / step) as usize + 1,
        }
    }
    /// How many points.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Never true; there is always a point.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// The `i`-th point.
    pub fn at(&self, i: usize) -> i64 {
        self.start + self.step * i as i64
    }
    /// First point.
    pub fn start(&self) -> i64 {
        self.start
    }
    /// Last point.
    pub fn end(&self) -> i64 {
        self.at(self.len - 1)
    }
    /// Distance of points.
    pub fn step(&self) -> i64 {
        self.step
    }
    /// All points.
    pub fn iter(&self) -> impl Iterator<Item = i64> + use<> {
        let g = *self;
        (0..g.len).map(move |i| g.at(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_belong_to_the_grid() {
        let grid = Grid::range(10, 40, 15);
        assert_eq!(grid.iter().collect::<Vec<_>>(), [10, 25, 40]);
        assert_eq!((grid.start(), grid.end(), grid.step(), grid.len()), (10, 40, 15, 3));
        assert_eq!(Grid::range(10, 39, 15).end(), 25);
        assert_eq!(Grid::instant(7).iter().collect::<Vec<_>>(), [7]);
    }
}
