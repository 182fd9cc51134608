import { render } from 'preact'
import { App } from './app/app.js'

const root = document.createElement('div')
root.id = 'board'
document.body.append(root)
render(<App />, root)
