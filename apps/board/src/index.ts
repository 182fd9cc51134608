export { type Board, type BoardOptions, createBoard } from './server.js'
