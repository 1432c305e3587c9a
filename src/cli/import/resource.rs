//! The Kubernetes resources of imported files, those inside lists too.

use super::field::{Wrong, list, printed, text};
use super::page::quoted;
use crate::config::ImportedValue;

/// A resource.
#[derive(Clone, Copy)]
pub(super) struct Resource<'f> {
    pub(super) kind: &'f str,
    pub(super) version: &'f str,
    pub(super) name: &'f str,
    pub(super) namespace: Option<&'f str>,
    pub(super) node: &'f ImportedValue,
}

impl<'f> Resource<'f> {
    /// Refuses it if its `apiVersion` is none of these, whose fields are known.
    pub(super) fn check_version(&self, known: &[&str]) -> Result<(), Wrong> {
        if known.contains(&self.version) {
            return Ok(());
        }
        let (kind, version) = (printed(self.kind), quoted(self.version));
        let article = if kind.starts_with('A') { "an" } else { "a" };
        Err(Wrong::at(self.node, format!("{article} {kind} of {version}; only {} is known", known.join(" and "))))
    }

    /// Whether this is what is meant by a name and a namespace.
    pub(super) fn is_called(&self, name: &str, namespace: Option<&str>) -> bool {
        self.name == name && (self.namespace == namespace || self.namespace.is_none())
    }

    /// How it is called: its namespace, if it says one, and its name.
    pub(super) fn title(&self) -> String {
        let namespace = self.namespace.map(|namespace| format!("{}/", printed(namespace))).unwrap_or_default();
        format!("{namespace}{}", printed(self.name))
    }

    /// Its kind and name, and where it stands.
    pub(super) fn place(&self) -> String {
        format!("{} {} ({}:{})", printed(self.kind), self.title(), printed(self.node.file()), self.node.line)
    }

    /// Its `spec`.
    pub(super) fn spec(&self) -> Result<&'f ImportedValue, Wrong> {
        self.node.get("spec").ok_or_else(|| Wrong::at(self.node, format!("this {} has no `spec`", printed(self.kind))))
    }
}

/// The resource of that name: the one of this namespace before one that says none.
pub(super) fn find<'r, 'f>(
    resources: &'r [Resource<'f>],
    name: &str,
    namespace: Option<&str>,
) -> Option<&'r Resource<'f>> {
    let exact = resources.iter().find(|resource| resource.name == name && resource.namespace == namespace);
    exact.or_else(|| resources.iter().find(|resource| resource.is_called(name, namespace)))
}

/// All resources of the documents, in order.
pub(super) fn resources(documents: &[ImportedValue]) -> Result<Vec<Resource<'_>>, Wrong> {
    let mut found = Vec::new();
    for document in documents {
        let Some(kind) = text(document, "kind")? else {
            return Err(Wrong::at(document, "this is no Kubernetes resource: it has no `kind`"));
        };
        let version = text(document, "apiVersion")?.unwrap_or_default();
        let Some(listed) = kind.strip_suffix("List").filter(|_| document.get("items").is_some()) else {
            found.push(resource(document, kind, version)?);
            continue;
        };
        if kind == "List" && !matches!(version, "" | "v1") {
            return Err(Wrong::at(document, format!("a List of {}; only v1 is known", quoted(version))));
        }
        for item in list(document, "items")? {
            // The items of a `CanaryList` need not say their kind; those of a `List` must.
            let kind = text(item, "kind")?.or(Some(listed).filter(|listed| !listed.is_empty()));
            let Some(kind) = kind else {
                return Err(Wrong::at(item, "this is no Kubernetes resource: it has no `kind`"));
            };
            if kind.ends_with("List") && item.get("items").is_some() {
                return Err(Wrong::at(item, "a list inside a list"));
            }
            found.push(resource(item, kind, text(item, "apiVersion")?.unwrap_or(version))?);
        }
    }
    Ok(found)
}

fn resource<'f>(node: &'f ImportedValue, kind: &'f str, version: &'f str) -> Result<Resource<'f>, Wrong> {
    let metadata = node.get("metadata");
    let of = |field| metadata.map_or(Ok(None), |metadata| text(metadata, field));
    Ok(Resource { kind, version, name: of("name")?.unwrap_or("?"), namespace: of("namespace")?, node })
}
