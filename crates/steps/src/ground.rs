//! Looks at what a restore rests on in the target Region: classes, groups, key.

use aurora_restore_core::domain::failure::Failure;
use aurora_restore_core::domain::guards::{Blueprint, Ground, Refusal, against_restoring, unusable_key};
use aurora_restore_core::domain::plan::Plan;
use aurora_restore_core::{Context, StepError};
use std::collections::BTreeSet;

/// Everything but the key.
pub(crate) async fn look(context: &Context, blueprint: &Blueprint) -> Result<Ground, StepError> {
    let rds = &context.rds;
    let orderable_classes = async {
        let mut orderable = BTreeSet::new();
        for class in &blueprint.instance_classes {
            if rds.is_orderable(&blueprint.engine, &blueprint.engine_version, class).await? {
                orderable.insert(class.clone());
            }
        }
        Ok(orderable)
    };
    let subnet_group_vpc = async {
        match &blueprint.subnet_group {
            Some(name) => rds.vpc_of_subnet_group(name).await,
            None => Ok(None),
        }
    };
    let parameter_group_family = async {
        match &blueprint.parameter_group {
            Some(name) => rds.family_of_parameter_group(name).await,
            None => Ok(None),
        }
    };
    let security_groups = context.ec2.security_groups(&blueprint.security_groups);
    let (orderable_classes, subnet_group_vpc, parameter_group_family, security_groups) =
        tokio::try_join!(orderable_classes, subnet_group_vpc, parameter_group_family, security_groups)?;
    let region = context.config.target_region.to_string();
    Ok(Ground { region, orderable_classes, subnet_group_vpc, security_groups, parameter_group_family })
}

/// Every reason why the restore of `plan` would fail as things stand now: the ground's, and the key's.
pub(crate) async fn doubts(context: &Context, plan: &Plan) -> Result<(Vec<Refusal>, Option<Failure>), StepError> {
    let blueprint = Blueprint::of(plan);
    let ground = look(context, &blueprint).await?;
    let key = match &blueprint.kms_key_id {
        Some(id) => unusable_key(id, context.kms().key(id).await?.as_ref()),
        None => None,
    };
    Ok((against_restoring(&blueprint, &ground), key))
}
