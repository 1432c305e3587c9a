//! Calls out of a rollout.

use std::path::PathBuf;

use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::url::Url;
use crate::config::syntax::values::Period;
use crate::config::syntax::yaml::Node;
use crate::rollout::plan::{Hook, HookPoint};

/// How many hooks a rollout may have.
const MAX_HOOKS: usize = 32;
const TIMEOUT: Period = Period::from_secs(10);
const TIMEOUTS: std::ops::RangeInclusive<Period> = Period::from_millis(100)..=Period::from_secs(3_600);
const RETRIES: std::ops::RangeInclusive<u32> = 0..=10;

pub(crate) fn read<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Hook>> {
    reader.list(node, 0..=MAX_HOOKS)
}

impl Read for Hook {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["when", "url", "timeout", "retries", "secret_file"])?;
        let when = fields.required("when");
        let url: Option<Url> = fields.required("url");
        let timeout = fields.bounded("timeout", TIMEOUT, TIMEOUTS);
        let retries = fields.bounded("retries", 0, RETRIES);
        let secret_file = fields.optional::<PathBuf>("secret_file");
        fields.done()?;
        Some(Self {
            when: when?,
            url: url?.get(),
            timeout: timeout?.get(),
            retries: retries?,
            secret_file: secret_file?.map(Into::into),
        })
    }
}

impl Read for HookPoint {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(
            node,
            &[
                ("before_start", Self::BeforeStart),
                ("before_step", Self::BeforeStep),
                ("during", Self::During),
                ("before_promote", Self::BeforePromote),
                ("after", Self::After),
                ("demand_rollback", Self::DemandRollback),
            ],
        )
    }
}
