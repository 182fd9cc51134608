/** A secret's exact bytes, wrapped so that neither logs nor JSON can show them. */
export class Secret {
  readonly #value: Buffer

  constructor(value: Buffer | string) {
    this.#value = Buffer.from(value)
  }

  /** The bytes; call it only where they are used. */
  reveal(): Buffer {
    return this.#value
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]'
  }
}
