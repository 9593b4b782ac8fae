/// Shares items out to sites by size: sorted by size, then cut into runs whose lengths differ by at most one.
///
/// Returns the indices of each site's items; sites are never empty, so there are at most as many as items.
///
/// # Panics
/// If `sites` is 0.
///
/// # Reference
/// Section 4.1: ten sites by tumour volume.
///
/// # Example
/// ```
/// assert_eq!(asyndgan_medio::partition_by_size(&[5.0, 1.0, 3.0], 2), [vec![1, 2], vec![0]]);
/// ```
pub fn partition_by_size(sizes: &[f64], sites: usize) -> Vec<Vec<usize>> {
    assert!(sites > 0, "no sites");
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| sizes[a].total_cmp(&sizes[b]).then(a.cmp(&b)));
    let sites = sites.min(sizes.len());
    let mut parts = Vec::with_capacity(sites);
    for site in 0..sites {
        let left = sites - site;
        let rest = order.split_off(order.len().div_ceil(left));
        parts.push(std::mem::replace(&mut order, rest));
    }
    parts
}
