//! All clusters: which one an error belongs to, and what becomes of them over time.

use std::collections::BTreeMap;

use super::{Activity, Cluster, ClusterId, Member, Partition, TEMPLATES_MAX, Vector};
use crate::incident::ErrorKind;

/// How clusters are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Most clusters; beyond, the one not seen for longest gives way.
    pub clusters_max: usize,
    /// The cosine from which an error of no known meaning belongs to a cluster.
    pub threshold: f32,
    /// A cluster without an error for this long ends, in milliseconds.
    pub idle_ms: u64,
}

/// The score from which a meaning of the exemplars decides about the cluster; below, it gives the
/// kind alone.
pub const MEANING_SCORE_MIN: f32 = 0.3;
/// By how much more alike than the threshold two clusters must be to become one, and by how much
/// less its halves to be two: between, nothing changes back and forth.
const MARGIN: f32 = 0.15;
/// The share of a cluster that the smaller half must have to be one of its own.
const SPLIT_SHARE_MIN: f64 = 0.2;
/// Rounds of 2-means when a cluster is looked at for a split.
const SPLIT_ROUNDS: usize = 8;

/// An error, as clusters see it.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Which clusters it can be in.
    pub partition: Partition,
    /// Its meaning, by the exemplars.
    pub meaning: Option<&'a str>,
    /// Its kind.
    pub kind: ErrorKind,
    /// How sure that is.
    pub score: f32,
    /// Its masked template.
    pub template: &'a str,
    /// Where it lies.
    pub vector: &'a Vector,
}

impl<'a> Point<'a> {
    fn anchor(&self) -> Option<&'a str> {
        self.meaning.filter(|_| self.score >= MEANING_SCORE_MIN)
    }
}

/// What re-clustering did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The first became part of the second.
    Merged(ClusterId, ClusterId),
    /// The second was split off the first.
    Split(ClusterId, ClusterId),
    /// It had no errors for long.
    Expired(ClusterId),
}

/// All clusters, by name.
#[derive(Debug, Default)]
pub struct Clusters {
    by_id: BTreeMap<ClusterId, Cluster>,
}

impl Clusters {
    /// What was kept of an earlier run.
    #[must_use]
    pub fn restore(clusters: Vec<Cluster>) -> Self {
        Self { by_id: clusters.into_iter().map(|cluster| (cluster.id.clone(), cluster)).collect() }
    }

    /// Forgets all embeddings: another model's cannot be compared with them.
    pub fn forget_embeddings(&mut self) {
        self.by_id.values_mut().for_each(|cluster| cluster.centroid.embedding = None);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.by_id.values()
    }

    /// The cluster of that name.
    #[must_use]
    pub fn get(&self, id: &ClusterId) -> Option<&Cluster> {
        self.by_id.get(id)
    }

    /// The cluster that `point` belongs to, in its own partition.
    #[must_use]
    pub fn find(&self, point: &Point<'_>, settings: &Settings) -> Option<ClusterId> {
        let mine = || self.iter().filter(|cluster| cluster.partition == point.partition);
        if let Some(meaning) = point.anchor() {
            return mine().find(|c| c.meaning.as_deref() == Some(meaning)).map(|c| c.id.clone());
        }
        let alike = |c: &Cluster| (c.centroid.similarity(point.vector), c.id.clone());
        mine()
            .filter(|c| c.meaning.is_none() && c.kind == point.kind)
            .map(alike)
            .filter(|(near, _)| *near >= settings.threshold)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, id)| id)
    }

    /// The cluster that is most like `point` in any partition, for an error that was only tried.
    #[must_use]
    pub fn find_anywhere(&self, point: &Point<'_>, settings: &Settings) -> Option<ClusterId> {
        self.find(point, settings).or_else(|| {
            let mut partitions: Vec<Partition> = self.iter().map(|c| c.partition).collect();
            partitions.sort_unstable();
            partitions.dedup();
            let in_each =
                partitions.into_iter().filter_map(|p| self.find(&Point { partition: p, ..*point }, settings));
            in_each.filter_map(|id| self.get(&id)).max_by_key(|c| c.members).map(|c| c.id.clone())
        })
    }

    /// Learns the text of `point` and says which cluster it is in. How many errors there were is
    /// said with [`Self::count`].
    pub fn learn(&mut self, point: &Point<'_>, now_ms: u64, settings: &Settings) -> ClusterId {
        let id = self.find(point, settings).unwrap_or_else(|| self.begin(point, now_ms, settings));
        if let Some(cluster) = self.by_id.get_mut(&id) {
            cluster.learnt += 1;
            cluster.score += (point.score - cluster.score) / cluster.learnt as f32;
            cluster.centroid.move_towards(point.vector, cluster.learnt);
            cluster.count_template(point.template, 0);
            cluster.last_seen_ms = cluster.last_seen_ms.max(now_ms);
        }
        id
    }

    /// Counts errors of a template that was learnt before.
    pub fn count(&mut self, id: &ClusterId, template: &str, errors: u64, now_ms: u64) {
        if let Some(cluster) = self.by_id.get_mut(id) {
            cluster.members += errors;
            cluster.count_template(template, errors);
            cluster.activity.count(errors, now_ms);
            cluster.last_seen_ms = cluster.last_seen_ms.max(now_ms);
        }
    }

    fn begin(&mut self, point: &Point<'_>, now_ms: u64, settings: &Settings) -> ClusterId {
        if self.by_id.len() >= settings.clusters_max
            && let Some(oldest) = self.iter().min_by_key(|c| worth(c)).map(|c| c.id.clone())
        {
            self.by_id.remove(&oldest);
        }
        let cluster = Cluster {
            id: self.free_name(point.partition, point.anchor().unwrap_or(point.template)),
            partition: point.partition,
            meaning: point.anchor().map(str::to_owned),
            kind: point.kind,
            score: point.score,
            members: 0,
            learnt: 0,
            templates: Vec::new(),
            centroid: point.vector.clone(),
            first_seen_ms: now_ms,
            last_seen_ms: now_ms,
            activity: Activity::default(),
        };
        let id = cluster.id.clone();
        self.by_id.insert(id.clone(), cluster);
        id
    }

    fn free_name(&self, partition: Partition, what: &str) -> ClusterId {
        let mut salt = 0;
        loop {
            let id = ClusterId::of(partition, what, salt);
            if !self.by_id.contains_key(&id) {
                return id;
            }
            salt += 1;
        }
    }

    /// Merges what has become alike, splits what has become two, and ends what is over. Clusters
    /// of a known meaning are what they are; this is about the others.
    pub fn recluster(&mut self, now_ms: u64, settings: &Settings) -> Vec<Change> {
        let mut changes = Vec::new();
        let over = |c: &&Cluster| now_ms.saturating_sub(c.last_seen_ms) > settings.idle_ms;
        let expired: Vec<ClusterId> = self.iter().filter(over).map(|c| c.id.clone()).collect();
        for id in expired {
            self.by_id.remove(&id);
            changes.push(Change::Expired(id));
        }
        while let Some((from, into)) = self.alike(settings) {
            self.merge(&from, &into, now_ms);
            changes.push(Change::Merged(from, into));
        }
        let open: Vec<ClusterId> =
            self.iter().filter(|c| c.meaning.is_none()).map(|c| c.id.clone()).collect();
        for id in open {
            if self.by_id.len() < settings.clusters_max
                && let Some(new) = self.split(&id, settings)
            {
                changes.push(Change::Split(id, new));
            }
        }
        changes
    }

    /// Two clusters that should be one: the younger and the older.
    fn alike(&self, settings: &Settings) -> Option<(ClusterId, ClusterId)> {
        let open: Vec<&Cluster> = self.iter().filter(|c| c.meaning.is_none()).collect();
        for (index, a) in open.iter().enumerate() {
            for b in open.iter().skip(index + 1) {
                let same = a.partition == b.partition && a.kind == b.kind;
                if same && a.centroid.similarity(&b.centroid) >= settings.threshold + MARGIN {
                    let (young, old) = if a.first_seen_ms > b.first_seen_ms { (a, b) } else { (b, a) };
                    return Some((young.id.clone(), old.id.clone()));
                }
            }
        }
        None
    }

    fn merge(&mut self, from: &ClusterId, into: &ClusterId, now_ms: u64) {
        let Some(from) = self.by_id.remove(from) else { return };
        let Some(into) = self.by_id.get_mut(into) else { return };
        into.absorb(&from, now_ms);
    }

    /// Takes over a cluster that another process has counted so far. Where this one has counted
    /// errors of it too, they are added up.
    pub fn adopt(&mut self, mut cluster: Cluster, now_ms: u64) {
        if cluster.centroid.words.is_empty() {
            let Some(centroid) = centre(&cluster.templates) else { return };
            cluster.centroid = centroid;
        }
        match self.by_id.get_mut(&cluster.id) {
            Some(mine) => mine.absorb(&cluster, now_ms),
            None => drop(self.by_id.insert(cluster.id.clone(), cluster)),
        }
    }

    /// Leaves `errors` of a cluster to another process; with the last of them the cluster goes too.
    pub fn give_up(&mut self, id: &ClusterId, errors: u64) {
        let Some(cluster) = self.by_id.get_mut(id) else { return };
        cluster.members = cluster.members.saturating_sub(errors);
        if cluster.members == 0 {
            self.by_id.remove(id);
        }
    }

    /// Splits a cluster whose templates lie in two places; the half with more errors keeps the name.
    fn split(&mut self, id: &ClusterId, settings: &Settings) -> Option<ClusterId> {
        let cluster = self.by_id.get(id)?;
        let (stay, leave) = halves(&cluster.templates, settings.threshold - MARGIN)?;
        let title = leave.first()?.template.clone();
        let new = self.free_name(cluster.partition, &title);
        let mut other = self.by_id.get(id)?.clone();
        other.id = new.clone();
        let errors = |templates: &[Member]| templates.iter().map(|m| m.count).sum::<u64>();
        let (leaving, all) = (errors(&leave), errors(&leave) + errors(&stay));
        let leaving = other.members.saturating_mul(leaving).checked_div(all).unwrap_or(0);
        for (half, templates) in [(&mut other, leave), (self.by_id.get_mut(id)?, stay)] {
            half.members = if half.id == new { leaving } else { half.members - leaving };
            half.learnt = templates.len() as u64;
            half.centroid = centre(&templates)?;
            half.templates = templates;
        }
        // Which of the errors now are whose is not known: the new one starts anew.
        other.activity = Activity::default();
        self.by_id.insert(new.clone(), other);
        Some(new)
    }
}

/// Which cluster gives way first: one of messages that were only tried, then the one not seen for
/// longest.
fn worth(cluster: &Cluster) -> (bool, u64) {
    (cluster.partition != Partition::TRIED, cluster.last_seen_ms)
}

/// The mean of templates, by their words: embeddings are not kept for each.
fn centre(templates: &[Member]) -> Option<Vector> {
    let mut members = 0;
    let mut centre: Option<Vector> = None;
    for member in templates {
        members += 1;
        let point = Vector::of(&member.template, None);
        match &mut centre {
            Some(centre) => centre.move_towards(&point, members),
            None => centre = Some(point),
        }
    }
    centre
}

/// 2-means over the templates, begun at the two least alike; none when the halves lie nearer than
/// `apart` or one is too small.
fn halves(templates: &[Member], apart: f32) -> Option<(Vec<Member>, Vec<Member>)> {
    let vectors: Vec<Vector> =
        templates.iter().take(TEMPLATES_MAX).map(|m| Vector::of(&m.template, None)).collect();
    let pairs = vectors.iter().enumerate().flat_map(|(i, a)| vectors.iter().skip(i + 1).map(move |b| (a, b)));
    let (a, b) = pairs.min_by(|x, y| x.0.similarity(x.1).total_cmp(&y.0.similarity(y.1)))?;
    let (mut a, mut b) = (a.clone(), b.clone());
    let mut sides = (Vec::new(), Vec::new());
    for _ in 0..SPLIT_ROUNDS {
        sides = (Vec::new(), Vec::new());
        for (member, vector) in templates.iter().zip(&vectors) {
            let side =
                if vector.similarity(&a) >= vector.similarity(&b) { &mut sides.0 } else { &mut sides.1 };
            side.push(member.clone());
        }
        (a, b) = (centre(&sides.0)?, centre(&sides.1)?);
    }
    let (left, right) = sides;
    let errors = |side: &[Member]| side.iter().map(|m| m.count + 1).sum::<u64>() as f64;
    let (most, least) = (errors(&left).max(errors(&right)), errors(&left).min(errors(&right)));
    if a.similarity(&b) >= apart || least < SPLIT_SHARE_MIN * (most + least) {
        return None;
    }
    Some(if errors(&left) >= errors(&right) { (left, right) } else { (right, left) })
}

#[cfg(test)]
mod tests;
