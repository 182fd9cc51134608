/** Gives names to what Bull Board shows as a mere picture, for who does not see it. */
const NAMES: Readonly<Record<string, string>> = {
  'circle-user': 'Pages of the board',
  copy: 'Copy',
  'ellipsis-vertical': 'More',
  maximize: 'Full screen',
  minimize: 'End of full screen',
  settings: 'Settings',
}

function nameOf(button: Element): string {
  const icon = /\blucide-([\w-]+)/.exec(button.querySelector('svg')?.getAttribute('class') ?? '')?.[1]
  if (icon === undefined) return 'Redis'
  return NAMES[icon] ?? icon.replaceAll('-', ' ')
}

function nameAll(): void {
  for (const button of document.querySelectorAll('button')) {
    const text = button.textContent.trim()
    const name = button.getAttribute('aria-label')
    // The styles that a picture brings are text to the DOM.
    if (name === null && (text === '' || button.querySelector('svg style')))
      button.setAttribute('aria-label', nameOf(button))
    else if (name !== null && !name.includes(text)) button.setAttribute('aria-label', `${text}: ${name}`)
  }
  for (const picture of document.querySelectorAll('svg[role=img]:not([aria-hidden])')) {
    picture.removeAttribute('role')
    picture.setAttribute('aria-hidden', 'true')
  }
}

let isAsked = false
new MutationObserver(() => {
  if (isAsked) return
  isAsked = true
  requestAnimationFrame(() => {
    isAsked = false
    nameAll()
  })
}).observe(document.documentElement, { childList: true, subtree: true })
