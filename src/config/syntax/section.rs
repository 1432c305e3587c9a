//! One table per section of the file: from it come the reader, the known fields, the defaults and the JSON Schema.
//!
//! ```text
//! section! {
//!     /// Connections kept open to each endpoint.                             the schema's description, and the struct's
//!     #[derive(Clone, Debug, PartialEq, Eq)]
//!     pub struct Pool {
//!         /// How long one may be idle.
//!         pub idle_timeout: Period = bounded(Period::from_secs(30), SHORT..=LONG),
//!     }
//!     default                                                                 `Default` too: what an empty section says
//!     rules(fields) { … }                                                     what holds between several fields
//! }
//! ```
//!
//! Behind `=` stands a call of [`Fields`](super::fields::Fields) without the field's name: it reads the field. The method
//! of that name of [`FieldSchema`](super::schema::FieldSchema) describes it, and that of [`Absent`] is its default.
//! `name as "word": …` is a field that the file calls `word`; `T as S` is a value that is described as `S`; `and x: T` is a
//! field of the struct that the file does not have.
//!
//! `rules` are statements between reading and building. They note faults, and they see every field as `Option<T>`, `None`
//! if it had a fault; they may also put another value in a field's place.
//!
//! A type that stands elsewhere and has another shape than its section in the file is read with
//! `impl TYPE as "NAME" { fields } rules(fields) { … } => EXPRESSION`, where the expression builds it from the fields.
//! [`words!`] does the same for a value that is one of a few words.

use std::ops::RangeInclusive;

/// See the [module](self).
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        #[derive($($derive:ident),+ $(,)?)]
        $vis:vis struct $name:ident $(as $schema_name:literal)? { $(
            $(#[doc = $about:literal])+
            $field_vis:vis $field:ident $(as $key:literal)? : $type:ty $(as $shape:ty)? = $how:ident($($argument:expr),* $(,)?)
        ),+ $(,)? }
        $(and $extra_vis:vis $extra:ident: $extra_type:ident)?
        $(default $($default:literal)?)?
        $(rules($fields:ident) { $($rules:tt)* })?
    ) => {
        $(#[doc = $doc])+
        #[derive($($derive),+)]
        $vis struct $name {
            $($(#[doc = $about])+ $field_vis $field: $type,)+
            $($extra_vis $extra: $extra_type,)?
        }

        section! { @read
            $name, ($($fields)? fields),
            { $($field $(as $key)? : $type = $how($($argument),*),)+ },
            { $($($rules)*)? },
            Self { $($field,)+ $($extra: $extra_type::default(),)? }
        }

        section! { @describe
            $name, section!(@name $name $($schema_name)?), [$($doc),+],
            { $([$($about),+] $field $(as $key)? : $type $(as $shape)? = $how($($argument),*),)+ }
        }

        section! { @default [$(default $($default)?)?] $name { $($field = $how($($argument),*),)+ } }
    };
    (
        $(#[doc = $doc:literal])+
        impl $type_:ty as $name:literal { $(
            $(#[doc = $about:literal])+
            $field:ident $(as $key:literal)? : $type:ty $(as $shape:ty)? = $how:ident($($argument:expr),* $(,)?)
        ),+ $(,)? }
        $(rules($fields:ident) { $($rules:tt)* })?
        => $build:expr
    ) => {
        section! { @read
            $type_, ($($fields)? fields),
            { $($field $(as $key)? : $type = $how($($argument),*),)+ },
            { $($($rules)*)? },
            $build
        }

        section! { @describe
            $type_, $name, [$($doc),+],
            { $([$($about),+] $field $(as $key)? : $type $(as $shape)? = $how($($argument),*),)+ }
        }
    };
    (@read
        $target:ty, ($fields:ident $($unused:ident)?),
        { $($field:ident $(as $key:literal)? : $type:ty = $how:ident($($argument:expr),*),)+ },
        { $($rules:tt)* },
        $build:expr
    ) => {
        impl crate::config::syntax::read::Read for $target {
            fn read<'n>(
                node: &'n crate::config::syntax::tree::Node<'n>,
                reader: &mut crate::config::syntax::read::Reader<'n>,
            ) -> Option<Self> {
                const KNOWN: &[&str] = &[$(section!(@name $field $($key)?)),+];
                let mut $fields = crate::config::syntax::fields::Fields::of(node, reader, KNOWN)?;
                $(let $field = $fields.$how(section!(@name $field $($key)?) $(, $argument)*);)+
                $($rules)*
                $fields.done()?;
                $(let $field: $type = $field?;)+
                Some($build)
            }
        }
    };
    (@describe
        $type:ty, $name:expr, [$($doc:literal),+],
        { $([$($about:literal),+] $field:ident $(as $key:literal)? : $value:ty $(as $shape:ty)? = $how:ident($($argument:expr),*),)+ }
    ) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut section = crate::config::syntax::schema::SectionSchema::new(generator);
                $(section
                    .field::<section!(@shape $value $(, $shape)?)>(section!(@name $field $($key)?), &[$($about),+])
                    .$how($($argument),*);)+
                section.finish(&[$($doc),+])
            }
        }
    };
    (@default [] $($nothing:tt)*) => {};
    (@default [default] $name:ident { $($field:ident = $how:ident($($argument:expr),*),)+ }) => {
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: crate::config::syntax::section::Absent.$how($($argument),*),)+ }
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };
    (@shape $type:ty) => { $type };
    (@shape $type:ty, $shape:ty) => { $shape };
}
pub(crate) use section;

/// One of a few words, as an enum of its own or (`impl TYPE as "NAME" { … }`) as one that stands elsewhere.
macro_rules! words {
    (
        $(#[doc = $doc:literal])+
        #[derive($($derive:ident),+ $(,)?)]
        $vis:vis enum $name:ident $(as $schema_name:literal)? { $(
            $(#[doc = $about:literal])+
            $(#[default $($default:literal)?])?
            $variant:ident = $word:literal
        ),+ $(,)? }
        $(not $($wrong:literal)|+ => $help:literal)?
    ) => {
        $(#[doc = $doc])+
        #[derive($($derive),+)]
        $vis enum $name { $(
            $(#[doc = $about])+
            $(#[default $($default)?])?
            $variant,
        )+ }

        words! {
            @impl $name, $crate::config::syntax::section::section!(@name $name $($schema_name)?), [$($doc),+],
            { $([$($about),+] $variant = $word,)+ }, { $($($wrong)|+ => $help)? }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
    (
        $(#[doc = $doc:literal])+
        impl $type:ident as $name:literal { $(
            $(#[doc = $about:literal])+
            $variant:ident = $word:literal
        ),+ $(,)? }
    ) => {
        words! { @impl $type, $name, [$($doc),+], { $([$($about),+] $variant = $word,)+ }, {} }
    };
    (
        @impl $type:ident, $name:expr, [$($doc:literal),+],
        { $([$($about:literal),+] $variant:ident = $word:literal,)+ }, { $($($wrong:literal)|+ => $help:literal)? }
    ) => {
        impl crate::config::syntax::read::Read for $type {
            fn read<'n>(
                node: &'n crate::config::syntax::tree::Node<'n>,
                reader: &mut crate::config::syntax::read::Reader<'n>,
            ) -> Option<Self> {
                const WORDS: &[(&str, $type)] = &[$(($word, $type::$variant)),+];
                $(if let crate::config::syntax::tree::Value::Text(text) = &node.value
                    && matches!(&*text.text, $($wrong)|+)
                {
                    return reader.wrong(node, crate::config::syntax::read::listed(WORDS), Some($help));
                })?
                reader.choose(node, WORDS)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use crate::config::syntax::schema;
                schema::words(&schema::lines(&[$($doc),+]), &[$(($word, &schema::lines(&[$($about),+]))),+])
            }
        }
    };
}
pub(crate) use words;

/// A field that the file does not have: what it then is, for [`section!`].
#[derive(Clone, Copy)]
pub(crate) struct Absent;

impl Absent {
    pub(crate) fn optional<T>(self) -> Option<T> {
        None
    }

    pub(crate) fn with<T, F>(self, _read: F) -> Option<T> {
        None
    }

    pub(crate) fn within<T, B>(self, _bounds: RangeInclusive<B>) -> Option<T> {
        None
    }

    pub(crate) fn or<T>(self, default: T) -> T {
        default
    }

    pub(crate) fn bounded<T, B>(self, default: T, _bounds: RangeInclusive<B>) -> T {
        default
    }

    pub(crate) fn list<T, F>(self, _bounds: RangeInclusive<usize>, _read: F) -> Vec<T> {
        Vec::new()
    }

    pub(crate) fn list_or<T, W, F>(
        self,
        default: Vec<T>,
        _written: W,
        _bounds: RangeInclusive<usize>,
        _read: F,
    ) -> Vec<T> {
        default
    }

    pub(crate) fn with_or<T, W, F>(self, default: T, _written: W, _read: F) -> T {
        default
    }
}
