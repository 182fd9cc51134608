import type { TargetedEvent } from 'preact'
import { useState } from 'preact/hooks'
import { complaintOf, logIn } from './api.js'
import { useTitle } from './hooks.js'
import { Mark } from './mark.js'
import { isHere } from './router.js'

export function Login() {
  const [complaint, setComplaint] = useState<string | null>(null)
  const [busy, setBusy] = useState(false)
  useTitle('Log in')
  const submit = (event: TargetedEvent<HTMLFormElement>) => {
    event.preventDefault()
    const password = new FormData(event.currentTarget).get('password')
    setBusy(true)
    logIn(typeof password === 'string' ? password : '')
      // The queue's pages show the login too, in their place.
      .then(() => isHere() || location.reload())
      .catch((error: unknown) => setComplaint(complaintOf(error)))
      .finally(() => setBusy(false))
  }
  return (
    <main class="login" id="main">
      <form class="card" onSubmit={submit}>
        <h1>
          <Mark /> Agirunner
        </h1>
        <label>
          Password
          <input name="password" type="password" autocomplete="current-password" required />
        </label>
        <p class="complaint" role="alert">
          {complaint}
        </p>
        <button class="primary" type="submit" disabled={busy}>
          Log in
        </button>
      </form>
    </main>
  )
}
