//! What messages of D-Bus are made of (D-Bus specification, "Type System" and "Marshaling").

/// A value of a message, of the types that our calls have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `s`.
    Text(String),
    /// `b`.
    Flag(bool),
    /// `i`.
    Signed(i32),
    /// `u`.
    Short(u32),
    /// `t`.
    Number(u64),
    /// `ay`.
    Bytes(Vec<u8>),
    /// `au`.
    Numbers(Vec<u32>),
}

/// What a message holds, as it is written.
#[derive(Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    pub(super) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        // Ours are short.
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    pub(super) fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.number(u32::from(*flag));
            }
            Value::Signed(number) => {
                self.signature("i");
                self.number(number.cast_unsigned());
            }
            Value::Short(number) => {
                self.signature("u");
                self.number(*number);
            }
            Value::Number(number) => {
                self.signature("t");
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |body| body.0.extend(bytes));
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |body| numbers.iter().for_each(|&number| body.number(number)));
            }
        }
    }

    /// `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |body| {
            for (key, value) in properties {
                body.align(8);
                body.text(key);
                body.variant(value);
            }
        });
    }

    /// An array: its length counts what comes after the padding to its first element.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(alignment);
        let begin = self.0.len();
        fill(self);
        let length = u32::try_from(self.0.len() - begin).unwrap_or(u32::MAX);
        self.0[place..place + 4].copy_from_slice(&length.to_le_bytes());
    }
}

pub(super) enum Field {
    Number(u32),
    Text(String),
    Other,
}

/// The fields of a message's header, as they are read.
pub(super) struct Fields<'a>(pub(super) &'a [u8], pub(super) usize);

impl Fields<'_> {
    pub(super) fn next(&mut self) -> Option<(u8, Field)> {
        self.1 = self.1.next_multiple_of(8);
        let code = self.byte()?;
        let kind = self.signature()?;
        let value = match kind.as_str() {
            "u" => Field::Number(self.number()?),
            "s" | "o" => Field::Text(self.text()?),
            "g" => {
                self.signature()?;
                Field::Other
            }
            _ => return None,
        };
        Some((code, value))
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.get(self.1)?;
        self.1 += 1;
        Some(byte)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.1 = self.1.next_multiple_of(4);
        let bytes = self.0.get(self.1..self.1 + 4)?;
        self.1 += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.words(length)
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.words(length)
    }

    pub(super) fn words(&mut self, length: usize) -> Option<String> {
        let text = self.0.get(self.1..self.1.checked_add(length)?)?;
        self.1 += length + 1;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
