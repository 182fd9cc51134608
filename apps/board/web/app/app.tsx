import { useEffect, useRef } from 'preact/hooks'
import type { Session } from '../../src/api.js'
import { ContainersPage } from '../pages/containers.js'
import { OverviewPage } from '../pages/overview.js'
import { TaskPage } from '../pages/task.js'
import { TasksPage } from '../pages/tasks.js'
import { findSession, logOut, session } from './api.js'
import { useStore } from './hooks.js'
import { follow } from './live.js'
import { Login } from './login.js'
import { Mark } from './mark.js'
import { type Route, useRoute } from './router.js'
import { connection } from './stream.js'

export function App() {
  const who = useStore(session)
  useEffect(() => {
    findSession().catch(() => session.value === undefined && session.set(null))
  }, [])
  if (who === undefined) return <main id="main" aria-busy="true" />
  return who === null ? <Login /> : <Board who={who} />
}

function Board({ who }: { who: Session }) {
  const route = useRoute()
  const main = useRef<HTMLElement>(null)
  const address = route?.page === 'task' ? route.taskId : route?.page
  const first = useRef(true)
  useEffect(follow, [])
  useEffect(() => {
    // A screen reader hears of the new page; at the first one the browser has said it.
    if (!first.current) main.current?.focus({ preventScroll: true })
    first.current = false
  }, [address])
  return (
    <>
      <Bar who={who} page={route?.page} onSkip={() => main.current?.focus()} />
      <main id="main" ref={main} tabIndex={-1}>
        <Page route={route} who={who} />
      </main>
    </>
  )
}

function Page({ route, who }: { route: Route | null; who: Session }) {
  if (route === null) return <NoPage />
  switch (route.page) {
    case 'overview':
      return <OverviewPage />
    case 'containers':
      return <ContainersPage />
    case 'tasks':
      return <TasksPage />
    case 'task':
      return <TaskPage key={route.taskId} taskId={route.taskId} mayChange={who.role === 'operator'} />
  }
}

function NoPage() {
  return (
    <div class="empty">
      <h1>Nothing is here</h1>
      <p>
        The board has no such page. <a href=".">Go to the overview</a>
      </p>
    </div>
  )
}

const LINKS = [
  { href: '.', name: 'Overview', pages: ['overview'] },
  { href: 'containers', name: 'Containers', pages: ['containers'] },
  { href: 'tasks', name: 'Tasks', pages: ['tasks', 'task'] },
  { href: 'queues', name: 'Queues', pages: [] },
] as const

function Bar({ who, page, onSkip }: { who: Session; page: Route['page'] | undefined; onSkip: () => void }) {
  const isHere = (pages: readonly string[]) => page !== undefined && pages.includes(page)
  return (
    <header class="bar">
      <button type="button" class="skip" onClick={onSkip}>
        Skip to the page
      </button>
      <a class="brand" href="." aria-label="Agirunner, overview">
        <Mark /> <span>Agirunner</span>
      </a>
      <nav aria-label="Pages">
        {LINKS.map(({ href, name, pages }) => (
          <a key={href} href={href} aria-current={isHere(pages) ? 'page' : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <div class="who">
        <ConnectionState />
        <span class="tag mono" title="Queue">
          {who.queue}
        </span>
        <span class="tag" title={`Logged in as ${who.user}`}>
          {who.role}
        </span>
        <button type="button" class="quiet" onClick={() => void logOut().catch(() => undefined)}>
          Log out
        </button>
      </div>
    </header>
  )
}

function ConnectionState() {
  const state = useStore(connection)
  return (
    <span class={`connection ${state}`} role="status">
      <i aria-hidden="true" />
      {state === 'live' ? 'Live' : state === 'connecting' ? 'Connecting…' : 'Reconnecting…'}
    </span>
  )
}
