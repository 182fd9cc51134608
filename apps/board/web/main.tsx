import { render } from 'preact'
import type { Session } from '../src/api.js'

function App({ session }: { session: Session | null }) {
  return <main>{session?.user}</main>
}

render(<App session={null} />, document.body)
