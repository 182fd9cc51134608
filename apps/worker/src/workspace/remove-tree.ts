export { removeTree } from '@agirunner/cache'
