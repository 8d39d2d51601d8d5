//! The ways to name a model: `amazon.nova-lite-v1:0`, `us.amazon.nova-lite-v1:0`, and the ARNs of both.

/// Regions that a system-defined inference profile begins with.
const REGIONS: [&str; 8] = ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"];
/// Longest name, as the Converse API has it.
const MAX_NAME_BYTES: usize = 2048;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ModelName<'a> {
    /// A foundation model's id.
    Base(&'a str),
    /// A regional inference profile.
    Profile {
        /// With its region.
        id: &'a str,
        /// The model's id.
        base: &'a str,
    },
}

impl<'a> ModelName<'a> {
    /// Case matters. `None` for what can't name a model here, such as a prompt's ARN.
    pub(super) fn parse(name: &'a str) -> Option<ModelName<'a>> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return None;
        }
        let Some(arn) = name.strip_prefix("arn:") else {
            return Some(ModelName::from_id(name));
        };
        // arn:partition:bedrock:region:account:resource, and the resource may hold colons.
        let mut fields = arn.splitn(5, ':');
        let (partition, service) = (fields.next()?, fields.next()?);
        let (_region, _account, resource) = (fields.next()?, fields.next()?, fields.next()?);
        if !["aws", "aws-cn", "aws-us-gov"].contains(&partition) || service != "bedrock" {
            return None;
        }
        let (kind, id) = resource.split_once('/')?;
        match (kind, ModelName::from_id(id)) {
            ("foundation-model", name @ ModelName::Base(_)) => Some(name),
            ("inference-profile", name @ ModelName::Profile { .. }) => Some(name),
            (_, ModelName::Base(_) | ModelName::Profile { .. }) => None,
        }
    }

    fn from_id(id: &'a str) -> ModelName<'a> {
        match id.split_once('.') {
            Some((region, base)) if REGIONS.contains(&region) => ModelName::Profile { id, base },
            _ => ModelName::Base(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_arns_name_models() {
        let id = "amazon.nova-lite-v1:0";
        let base = Some(ModelName::Base(id));
        let profile = Some(ModelName::Profile { id: "us.amazon.nova-lite-v1:0", base: id });
        for (name, expected) in [
            (id, &base),
            ("us.amazon.nova-lite-v1:0", &profile),
            ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", &base),
            ("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-lite-v1:0", &base),
            ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0", &profile),
            ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/amazon.nova-lite-v1:0", &None),
            ("arn:aws:bedrock:us-east-1::foundation-model/us.amazon.nova-lite-v1:0", &None),
            ("arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ", &None),
            ("arn:aws:s3:::foundation-model/amazon.nova-lite-v1:0", &None),
            ("arn:aws:bedrock", &None),
            ("", &None),
        ] {
            assert_eq!(ModelName::parse(name), *expected, "{name}");
        }
        assert_eq!(ModelName::parse(&"x".repeat(MAX_NAME_BYTES + 1)), None);
    }

    #[test]
    fn a_region_is_only_what_stands_before_the_first_dot() {
        assert_eq!(ModelName::parse("US.amazon.nova-lite-v1:0"), Some(ModelName::Base("US.amazon.nova-lite-v1:0")));
        assert_eq!(ModelName::parse("usual.model"), Some(ModelName::Base("usual.model")));
    }
}
