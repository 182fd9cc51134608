import { Component, type ComponentChild, type ComponentType, createElement } from 'preact'

/** A component that is drawn again only when a property changed; each is compared as it is. */
export function memo<P extends object>(Inner: (props: P) => ComponentChild): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return differs(this.props, next)
    }

    override render() {
      return createElement(Inner, this.props)
    }
  }
}

export function differs(one: object, other: object): boolean {
  const [before, after] = [new Map(Object.entries(one)), Object.entries(other)]
  return before.size !== after.length || after.some(([name, value]) => !Object.is(before.get(name), value))
}
