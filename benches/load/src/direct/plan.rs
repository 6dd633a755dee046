//! How a direct program groups its items and spreads them over the cores.

/// Items a direct program may sort together: as many as the server has at hand at 32 connections of one item each.
pub(crate) const WINDOW: usize = 32;

/// Group sizes of the fair plan; the best counts.
const FAIR_GROUPS: [usize; 3] = [1, 4, 8];

/// Group sizes of the sorted corpus; the best counts.
const SORTED_GROUPS: [usize; 3] = [4, 8, 16];

/// Windows of sounds that a run of the server holds at most.
pub(super) const SERVED_WINDOWS: usize = 4;

/// Windows of sounds that a run holds at most, for one sound a call; the best counts.
const WINDOWS: [usize; 6] = [1, 2, SERVED_WINDOWS, 8, 16, 32];

/// How calls share the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As many sessions as cores, one thread each.
    Lanes,
    /// One session with as many threads as cores.
    Wide,
}

/// What a plan stands for in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// What a careful program without a server would do: the yardstick.
    Fair,
    /// One item a call, in the order of arrival: the floor.
    Singles,
    /// Everything sorted before the first call, which no server can do: the ceiling.
    Sorted,
}

/// One way to work through a sample.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) role: Role,
    pub(crate) layout: Layout,
    /// Items a call at most.
    pub(crate) size: usize,
    /// Indices of the items of each call.
    pub(crate) groups: Vec<Vec<usize>>,
    /// Windows of sounds a run holds at most; anything else is one run a call.
    pub(crate) windows: Option<usize>,
}

impl Plan {
    pub(crate) fn name(&self, cores: usize) -> String {
        let layout = match self.layout {
            Layout::Lanes => format!("{cores} sessions × 1 thread"),
            Layout::Wide => format!("1 session × {cores} threads"),
        };
        let runs = self.windows.map_or(String::new(), |windows| format!(", {windows} windows a run"));
        format!("groups of {}, {layout}{runs}", self.size)
    }
}

/// Every plan for items of these lengths.
pub(crate) fn for_lengths(lengths: &[usize]) -> Vec<Plan> {
    let order: Vec<usize> = (0..lengths.len()).collect();
    let mut plans = vec![Plan {
        role: Role::Singles,
        layout: Layout::Lanes,
        size: 1,
        groups: cut(&order, 1),
        windows: None,
    }];
    for size in FAIR_GROUPS {
        let groups: Vec<Vec<usize>> =
            order.chunks(WINDOW).flat_map(|window| cut(&by_length(window, lengths), size)).collect();
        for layout in [Layout::Lanes, Layout::Wide] {
            plans.push(Plan { role: Role::Fair, layout, size, groups: groups.clone(), windows: None });
        }
    }
    for size in SORTED_GROUPS {
        let groups = cut(&by_length(&order, lengths), size);
        plans.push(Plan { role: Role::Sorted, layout: Layout::Lanes, size, groups, windows: None });
    }
    plans
}

/// Plans for items of which only those of one size may share a call: of a window, the equals go together.
pub(crate) fn for_equals(sizes: &[usize]) -> Vec<Plan> {
    let order: Vec<usize> = (0..sizes.len()).collect();
    let of = |role, layout, size| {
        let windows = order.chunks(WINDOW).map(|window| by_length(window, sizes));
        let equals = windows.flat_map(|window| {
            let runs = window.chunk_by(|left, right| sizes[*left] == sizes[*right]);
            runs.flat_map(|run| cut(run, size)).collect::<Vec<_>>()
        });
        Plan { role, layout, size, groups: equals.collect(), windows: None }
    };
    let mut plans = vec![Plan { groups: cut(&order, 1), ..of(Role::Singles, Layout::Lanes, 1) }];
    for size in FAIR_GROUPS {
        plans.extend([Layout::Lanes, Layout::Wide].map(|layout| of(Role::Fair, layout, size)));
    }
    plans
}

/// Plans for items of one size, which gain nothing from sharing a call on a CPU: only the layout differs.
pub(crate) fn one_by_one(items: usize) -> Vec<Plan> {
    let order: Vec<usize> = (0..items).collect();
    let plan = |layout| Plan { role: Role::Fair, layout, size: 1, groups: cut(&order, 1), windows: None };
    vec![plan(Layout::Lanes), plan(Layout::Wide)]
}

/// Plans for sounds, which share a call whatever their lengths, in the order of arrival: those of one sound a call with any number of
/// windows a run, the others with as many as the server's.
pub(crate) fn for_sounds(sounds: usize) -> Vec<Plan> {
    let plans = for_equals(&vec![0; sounds]).into_iter().flat_map(|plan| {
        let choices: &[usize] =
            if plan.role == Role::Fair && plan.size == 1 { &WINDOWS } else { &[SERVED_WINDOWS] };
        choices.iter().map(move |windows| Plan { windows: Some(*windows), ..plan.clone() })
    });
    plans.collect()
}

fn by_length(indices: &[usize], lengths: &[usize]) -> Vec<usize> {
    let mut sorted = indices.to_vec();
    sorted.sort_by_key(|&index| lengths[index]);
    sorted
}

fn cut(indices: &[usize], size: usize) -> Vec<Vec<usize>> {
    indices.chunks(size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_plan_sorts_inside_its_window_only() {
        let lengths: Vec<usize> = (0..64).map(|index| 100 - index).collect();
        let plans = for_lengths(&lengths);
        let fair = plans.iter().find(|plan| plan.role == Role::Fair && plan.size == 8).unwrap();
        assert_eq!(fair.groups[0], (24..32).rev().collect::<Vec<_>>());
        assert_eq!(fair.groups.len(), 8);
        assert!(fair.groups[..4].iter().flatten().all(|&index| index < WINDOW));
    }

    #[test]
    fn equals_share_a_call_and_others_do_not() {
        let sizes: Vec<usize> = (0..64).map(|index| index % 3).collect();
        for plan in for_equals(&sizes) {
            assert!(plan.groups.iter().all(|group| group.len() <= plan.size));
            assert!(plan.groups.iter().all(|group| group.iter().all(|&item| sizes[item] == sizes[group[0]])));
        }
    }

    #[test]
    fn every_plan_computes_every_item_once() {
        let lengths: Vec<usize> = (0..100).map(|index| index * 37 % 61).collect();
        for plan in for_lengths(&lengths)
            .into_iter()
            .chain(one_by_one(100))
            .chain(for_equals(&lengths))
            .chain(for_sounds(100))
        {
            let mut seen: Vec<usize> = plan.groups.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>(), "{:?}", plan.role);
        }
    }
}
