"""Does a request fit the signature? Names, datatypes, shapes and columns, each refusal a sentence."""
